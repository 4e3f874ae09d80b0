"""LoRA: the adapter beside the weights equals the merged weights; PEFT folders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxlab import lm
from jaxlab.lm.hf_weights import weight_map
from tests.lm import tiny

TOKENS, MASK = tiny.padded_batch()
ALL = ("wq", "wk", "wv", "wo", "w_up", "w_down")


def _perturbed_lora(params, targets=ALL):
    lora = lm.init_lora(jax.random.key(1), params, rank=3, alpha=6.0, targets=targets)
    keys = iter(jax.random.split(jax.random.key(2), 99))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), lora)


def test_a_new_adapter_changes_nothing_and_has_the_stated_spread():
    cfg = tiny.config(d_model=96)
    params = tiny.perturbed(cfg)
    lora = lm.init_lora(jax.random.key(0), params, rank=4, alpha=8.0)
    assert lora.scale == 2.0
    assert set(lora.layers) == {"attn"}
    a = lora.layers["attn"]["wq"]["a"]
    assert a.shape == (3, 96, 4)
    assert float(jnp.var(a)) * 96 == pytest.approx(1.0, abs=0.15)
    plain = lm.forward(params, cfg, TOKENS).logits
    np.testing.assert_array_equal(lm.forward(params, cfg, TOKENS, lora=lora).logits, plain)
    jax.tree.map(np.testing.assert_array_equal, lm.merge_lora(params, lora), params)


def test_merging_keeps_double_precision():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64) / 3, tiny.perturbed(tiny.config()))
        lora = lm.init_lora(jax.random.key(0), params, rank=2, alpha=4.0)
        jax.tree.map(np.testing.assert_array_equal, lm.merge_lora(params, lora), params)


@pytest.mark.parametrize("variant", ["llama", "gpt2", "phi"])
def test_beside_equals_merged(variant):
    cfg = tiny.config(variant)
    params = tiny.perturbed(cfg)
    targets = (*ALL, "w_gate") if cfg.gated else ALL
    lora = _perturbed_lora(params, targets)
    merged = lm.merge_lora(params, lora)
    beside = lm.forward(params, cfg, TOKENS, attention_mask=MASK, lora=lora).logits
    expected = lm.forward(merged, cfg, TOKENS, attention_mask=MASK).logits
    np.testing.assert_allclose(beside[MASK], expected[MASK], atol=2e-4)
    logits, _ = lm.extend(
        params, cfg, TOKENS, lm.init_cache(cfg, 3, 20), attention_mask=MASK, lora=lora
    )
    np.testing.assert_allclose(logits[MASK], expected[MASK], atol=2e-4)


def test_an_adapter_of_half_precision_weights_learns_in_float32():
    cfg = tiny.config()
    params = jax.tree.map(lambda x: x.astype(jnp.float16), tiny.perturbed(cfg))
    lora = lm.init_lora(jax.random.key(0), params, rank=2, alpha=4.0)
    assert {x.dtype for x in jax.tree.leaves(lora)} == {jnp.dtype("float32")}
    tx = lm.make_optimizer(lm.OptimizerConfig())

    @jax.jit
    def step(lora, state):
        gradient = jax.grad(
            lambda lora: lm.next_token_loss(params, cfg, {"tokens": TOKENS}, lora=lora)[0]
        )(lora)
        updates, state = tx.update(gradient, state, lora)
        return jax.tree.map(jnp.add, lora, updates), state

    # The gradient of A is 0 at the start: float16 would divide it by an eps that rounds to 0.
    lora, state = step(lora, tx.init(lora))
    lora, _ = step(lora, state)
    assert all(np.isfinite(x).all() and np.any(x) for x in jax.tree.leaves(lora))


def test_gradients_reach_the_adapter_alone():
    cfg = tiny.config()
    params = tiny.perturbed(cfg)
    lora = _perturbed_lora(params)

    @jax.jit
    def loss(lora):
        return lm.next_token_loss(params, cfg, {"tokens": TOKENS}, lora=lora)[0]

    gradient = jax.grad(loss)(lora)
    assert all(np.any(g) for g in jax.tree.leaves(gradient))
    assert gradient.scale == lora.scale


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": 25}, "min"),  # wk is [48, 24]
        ({"rank": 2, "targets": ("wq", "w_gate_up")}, "w_gate_up"),
    ],
)
def test_bad_settings(settings, match):
    params = tiny.perturbed(tiny.config())
    with pytest.raises(ValueError, match=match):
        lm.init_lora(jax.random.key(0), params, alpha=1.0, **settings)


@pytest.mark.parametrize("variant", ["llama", "gpt2", "gpt_neox"])
def test_peft_folder(variant, tmp_path):
    """An adapter written by hand under PEFT's names, on fused modules where the family has them."""
    cfg = tiny.config(variant)
    params = tiny.perturbed(cfg)
    rng = np.random.default_rng(0)
    tensors, updates = {}, {}
    for weight in weight_map(cfg):
        if weight.path[-1] not in ("wq", "wk", "wv"):
            continue
        for layer, name in enumerate(weight.names):
            module = "base_model.model." + name.removesuffix(".weight")
            n_out = weight.n_rows or weight.shape[-1]
            if f"{module}.lora_A.weight" not in tensors:
                tensors[f"{module}.lora_A.weight"] = np.float32(rng.normal(size=(2, 48)))
                tensors[f"{module}.lora_B.weight"] = np.float32(rng.normal(size=(n_out, 2)))
            a, b = (tensors[f"{module}.lora_{x}.weight"] for x in "AB")
            rows = slice(None) if weight.rows is None else weight.rows
            updates[weight.path[-1], layer] = 2.0 * (b @ a)[rows].T
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"r": 2, "lora_alpha": 4, "bias": "none", "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    merged = lm.merge_lora(params, lm.load_lora(tmp_path, cfg))
    for (name, layer), update in updates.items():
        difference = merged["layers"]["attn"][name] - params["layers"]["attn"][name]
        np.testing.assert_allclose(difference[layer], update, atol=1e-5)


def test_half_an_adapter_is_named(tmp_path):
    cfg = tiny.config()
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    for half, missing in (("A", "B"), ("B", "A")):
        tensors = {f"{module}.lora_{half}.weight": np.zeros((2, 48), np.float32)}
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        with pytest.raises(KeyError, match=rf"no {module}\.lora_{missing}"):
            lm.load_lora(tmp_path, cfg)


def test_peft_folders_that_are_not_plain(tmp_path):
    cfg = tiny.config()
    with pytest.raises(FileNotFoundError, match="adapter_config"):
        lm.load_lora(tmp_path, cfg)
    config = {"r": 2, "lora_alpha": 4, "use_dora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({"other": np.zeros(1, np.float32)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="use_dora"):
        lm.load_lora(tmp_path, cfg)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_dora": False}))
    with pytest.raises(KeyError, match="embed_tokens"):
        lm.load_lora(tmp_path, cfg)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors cannot be read"):
        lm.load_lora(tmp_path, cfg)
