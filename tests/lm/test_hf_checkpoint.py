"""Model folders without a peer: shards, dtypes, names, errors, and reading slices for a mesh."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors.numpy import load_file, save_file

from jaxlab import lm
from tests.lm import tiny

WRITABLE = [variant for variant in tiny.VARIANTS if variant != "shifted"]
TOKENS, MASK = tiny.padded_batch()


def _saved(folder, variant="llama", dtype=None, **changes):
    cfg = tiny.config(variant, **changes)
    params = tiny.perturbed(cfg)
    if dtype is not None:
        params = jax.tree.map(lambda p: p.astype(dtype), params)
    lm.save_hf(folder, cfg, params)
    return cfg, params


def _rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors")


@pytest.mark.parametrize("variant", WRITABLE)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_round_trip_is_bitwise(variant, dtype, tmp_path):
    cfg, params = _saved(tmp_path, variant, dtype)
    again_cfg, again = lm.load_hf(str(tmp_path))
    assert again_cfg == cfg
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert jax.tree.map(lambda p: p.dtype, again) == jax.tree.map(lambda p: p.dtype, params)
    wide = lm.load_hf(tmp_path, dtype=jnp.float32)[1]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(wide))


def test_shards_have_an_index_and_replace_what_stood_there(tmp_path):
    cfg, params = _saved(tmp_path)
    lm.save_hf(tmp_path, cfg, params, max_shard_bytes=50_000)
    shards = sorted(p.name for p in tmp_path.glob("*.safetensors"))
    assert "model.safetensors" not in shards
    assert all(p.stat().st_size < 55_000 for p in tmp_path.glob("*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == shards
    assert index["metadata"]["total_size"] == 4 * lm.count_params(params)
    jax.tree.map(np.testing.assert_array_equal, lm.load_hf(tmp_path)[1], params)
    (tmp_path / shards[0]).rename(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=shards[0]):
        lm.load_hf(tmp_path)
    lm.save_hf(tmp_path, cfg, params)
    assert [p.name for p in tmp_path.glob("model*")] == ["model.safetensors"]
    with pytest.raises(ValueError, match="max_shard_bytes"):
        lm.save_hf(tmp_path, cfg, params, max_shard_bytes=0)


def test_names_without_the_base_prefix_and_buffers(tmp_path):
    _, params = _saved(tmp_path, "gpt2")

    def strip(tensors):
        stripped = {name.removeprefix("transformer."): x for name, x in tensors.items()}
        return stripped | {
            "h.0.attn.bias": np.zeros((1, 1, 4, 4), np.float32),
            "h.0.attn.masked_bias": np.zeros((), np.float32),
            "lm_head.weight": stripped["wte.weight"],
        }

    _rewrite(tmp_path, strip)
    jax.tree.map(np.testing.assert_array_equal, lm.load_hf(tmp_path)[1], params)


def test_tensors_without_a_place_are_named(tmp_path):
    _saved(tmp_path)
    bias = {"model.layers.0.self_attn.q_proj.bias": np.zeros(48, np.float32)}
    _rewrite(tmp_path, lambda tensors: tensors | bias)
    with pytest.warns(UserWarning, match=r"q_proj\.bias"):
        lm.load_hf(tmp_path)


def test_missing_and_misshapen_tensors(tmp_path):
    _saved(tmp_path)
    name = "model.layers.1.mlp.up_proj.weight"
    whole = load_file(tmp_path / "model.safetensors")
    _rewrite(tmp_path, lambda t: {k: v for k, v in t.items() if k != name})
    with pytest.raises(KeyError, match=name):
        lm.load_hf(tmp_path)
    save_file(whole | {name: np.zeros((80, 47), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"shape \(80, 47\).*shape \(80, 48\)"):
        lm.load_hf(tmp_path)
    save_file(whole | {name: np.zeros((80, 48), np.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="I8"):
        lm.load_hf(tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        lm.load_hf(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps(lm.config_to_hf(tiny.config())))
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        lm.load_hf(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    _saved(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read.*truncated"):
        lm.load_hf(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_damaged_config_is_named(tmp_path, name):
    _saved(tmp_path)
    (tmp_path / name).write_text('{\n"eos_token_id":')
    with pytest.raises(ValueError, match=rf"{name}:2: not JSON"):
        lm.load_hf(tmp_path)


def test_token_shift_and_wrong_parameters_cannot_be_saved(tmp_path):
    cfg = tiny.config("shifted")
    with pytest.raises(ValueError, match="token_shift"):
        lm.save_hf(tmp_path, cfg, tiny.perturbed(cfg))
    with pytest.raises(ValueError, match="shape"):
        lm.save_hf(tmp_path, tiny.config(d_ff=64), tiny.perturbed(tiny.config()))


def test_stop_tokens_of_the_generation_config(tmp_path):
    _saved(tmp_path, eos_ids=(2,))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    assert lm.load_hf(tmp_path)[0].eos_ids == (5, 6)


def test_mixed_and_half_precision_files(tmp_path):
    _saved(tmp_path)

    def mix(tensors):
        half = {n: t.astype(np.float16 if "mlp" in n else t.dtype) for n, t in tensors.items()}
        name = "model.layers.0.self_attn.q_proj.weight"
        return half | {name: tensors[name].astype(ml_dtypes.bfloat16)}

    _rewrite(tmp_path, mix)
    params = lm.load_hf(tmp_path)[1]
    assert params["layers"]["mlp"]["w_up"].dtype == jnp.float16
    assert params["layers"]["attn"]["wq"].dtype == jnp.float32  # one layer of three is bfloat16


@pytest.fixture(scope="module")
def mesh():
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    return jax.make_mesh(
        (2, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:4]
    )


@pytest.mark.parametrize("variant", WRITABLE)
def test_a_model_over_four_devices(variant, tmp_path, mesh):
    cfg, params = _saved(tmp_path, variant, vocab_size=96)
    tokens = TOKENS[[0, 1, 2, 0]] % 96
    mask = MASK[[0, 1, 2, 0]]
    specs = lm.param_specs(cfg, params)
    assert jax.tree.structure(specs, is_leaf=_is_spec) == jax.tree.structure(params)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=_is_spec)
    _, placed = lm.load_hf(tmp_path, shardings=shardings)
    for path, leaf in jax.tree_util.tree_leaves_with_path(placed):
        if path[-1].key.startswith("w"):
            assert leaf.addressable_shards[0].data.size * 4 == leaf.size, path
    jax.tree.map(np.testing.assert_array_equal, placed, params)
    batch = NamedSharding(mesh, P("fsdp"))
    place = lambda x: jax.device_put(x, batch)  # noqa: E731
    out = lm.forward(placed, cfg, place(tokens), attention_mask=place(mask)).logits
    expected = lm.forward(params, cfg, tokens, attention_mask=mask).logits
    assert tiny.max_error(jax.device_get(out), expected, mask) < 1e-4


def test_specs_leave_out_what_does_not_divide(mesh):
    cfg = tiny.config()  # V 97
    specs = lm.param_specs(cfg, None, mesh=mesh)
    assert specs["embed"]["w"] == P(None, "fsdp")
    assert specs["head"]["w"] == P("fsdp", None)
    assert specs["layers"]["attn"]["wk"] == P(None, "fsdp", "tensor")
    assert lm.param_specs(cfg, None, tensor_axis=None)["head"]["w"] == P("fsdp", None)


def _is_spec(node):
    return isinstance(node, P)


def test_a_reward_model_with_a_regression_head_loads_as_a_classifier(tmp_path):
    cfg, params = _saved(tmp_path, num_labels=1, model_type="mistral")
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["EurusRewardModel"]
    del config["id2label"], config["label2id"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    _rewrite(
        tmp_path, lambda tensors: tensors | {"regression_head.weight": tensors.pop("score.weight")}
    )
    again_cfg, again = lm.load_hf(tmp_path)
    assert again_cfg == cfg
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_a_reward_model_with_a_gate_is_refused(tmp_path):
    _saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["LlamaForRewardModelWithGating"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="LlamaForRewardModelWithGating has a head of its own"):
        lm.load_hf(tmp_path)
