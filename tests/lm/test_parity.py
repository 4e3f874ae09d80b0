"""Every family against transformers: recorded outputs everywhere, live where it is installed."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxlab import lm
from tests.lm import peer_models

TOKENS, MASK, POSITIONS = peer_models.batch()
VALID = MASK > 0
GOLDEN = Path(__file__).parent / "golden" / "peers.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.mark.parametrize("case", peer_models.CASES)
def test_recorded_outputs(case, golden, tmp_path):
    shapes = json.loads(str(golden[f"{case}/shapes"]))
    save_file({n: peer_models.weight(n, tuple(s)) for n, s in shapes.items()}, _weights(tmp_path))
    (tmp_path / "config.json").write_text(str(golden[f"{case}/config"]))
    cfg, params = lm.load_hf(tmp_path)
    _assert_equal_outputs(cfg, params, golden[f"{case}/logits"], golden[f"{case}/hidden"])


@pytest.mark.parametrize("case", peer_models.CASES)
def test_live_outputs_and_round_trip(case, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = peer_models.build(case)
    theirs = peer_models.outputs(model)
    model.save_pretrained(tmp_path / "theirs")
    cfg, params = lm.load_hf(tmp_path / "theirs")
    out = _assert_equal_outputs(cfg, params, theirs["logits"], theirs["hidden_states"][-1])
    states, attentions = np.asarray(out.hidden_states), np.asarray(out.attentions)
    np.testing.assert_allclose(
        states[:-1][:, VALID], theirs["hidden_states"][:-1][:, VALID], atol=2e-5
    )
    by_query = (0, 1, 3, 2, 4)
    np.testing.assert_allclose(
        attentions.transpose(by_query)[:, VALID],
        theirs["attentions"].transpose(by_query)[:, VALID],
        atol=1e-5,
    )

    lm.save_hf(tmp_path / "ours", cfg, params, max_shard_bytes=60_000)
    again_cfg, again = lm.load_hf(tmp_path / "ours")
    assert again_cfg == cfg
    jax.tree.map(np.testing.assert_array_equal, again, params)
    reloaded = type(model).from_pretrained(tmp_path / "ours", attn_implementation="eager")
    logits = peer_models.outputs(reloaded)["logits"]
    np.testing.assert_allclose(logits, theirs["logits"], atol=1e-6)


@pytest.mark.parametrize(
    "case", ["gpt2", "gpt_neox", "mistral_window", "qwen2_window", "phi3_long"]
)
def test_greedy_continuation_of_a_left_padded_batch(case, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = peer_models.build(case)
    model.save_pretrained(tmp_path)
    cfg, params = lm.load_hf(tmp_path)
    rows, new = [0, 1], 8
    theirs = model.generate(
        input_ids=torch.from_numpy(TOKENS[rows]),
        attention_mask=torch.from_numpy(MASK[rows]),
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=new,
    )[:, 20:]
    cache = lm.init_cache(cfg, 2, 20 + new)
    logits, cache = lm.extend(
        params, cfg, TOKENS[rows], cache, attention_mask=MASK[rows], last_only=True
    )
    step = jax.jit(lambda token, cache: lm.extend(params, cfg, token, cache, last_only=True))
    for number in range(new):
        token = jnp.argmax(logits.at[:, 2].set(-jnp.inf), axis=-1)  # min_new_tokens bars eos, 2
        np.testing.assert_array_equal(token, theirs[:, number].numpy())
        logits, cache = step(token[:, None], cache)


def _weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def _assert_equal_outputs(cfg, params, logits, hidden):
    out = lm.forward(
        params,
        cfg,
        TOKENS,
        attention_mask=MASK,
        output_hidden_states=True,
        output_attentions=True,
    )
    plain = lm.forward(params, cfg, TOKENS, attention_mask=MASK)
    np.testing.assert_allclose(plain.hidden[VALID], out.hidden[VALID], atol=1e-5)
    np.testing.assert_allclose(np.asarray(out.hidden)[VALID], hidden[VALID], atol=2e-5)
    if cfg.num_labels:
        ours = lm.sequence_scores(params, cfg, TOKENS, attention_mask=MASK)
        np.testing.assert_allclose(ours, logits, atol=2e-5)
    else:
        np.testing.assert_allclose(np.asarray(plain.logits)[VALID], logits[VALID], atol=2e-5)
    return out
