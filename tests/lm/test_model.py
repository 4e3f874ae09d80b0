"""The forward pass beyond parity: hooks, segments, token shift, precision, padding, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import lm
from tests.lm import tiny

TOKENS, MASK = tiny.padded_batch()


def _model(variant="llama", **changes):
    cfg = tiny.config(variant, **({"n_layers": 2, "windows": ()} | changes))
    return cfg, tiny.perturbed(cfg)


def test_hidden_states_and_hook():
    cfg, params = _model()
    out = lm.forward(params, cfg, TOKENS, output_hidden_states=True)
    assert out.hidden_states.shape == (3, 3, 20, 48)
    np.testing.assert_allclose(out.hidden_states[0], params["embed"]["w"][TOKENS])
    seen = lm.forward(
        params,
        cfg,
        TOKENS,
        hook=lambda layer, x: jnp.where(layer == 0, 0.0, x),
        output_hidden_states=True,
    )
    assert not np.any(seen.hidden_states[1])
    patched = lm.forward(
        params, cfg, TOKENS, hook=lambda layer, x: jnp.where(layer == 0, out.hidden_states[1], x)
    )
    np.testing.assert_allclose(patched.logits, out.logits, atol=1e-5)


def test_hook_is_differentiable_and_closes_over_traced_values():
    cfg, params = _model()

    @jax.jit
    def steered(vector):
        return jnp.sum(lm.forward(params, cfg, TOKENS, hook=lambda _, x: x + vector).logits ** 2)

    gradient = jax.grad(steered)(jnp.zeros(48))
    step = 1e-2 * jnp.ones(48)
    finite = (steered(step) - steered(-step)) / 2
    assert float(gradient @ step) == pytest.approx(float(finite), rel=2e-2)


@pytest.mark.parametrize("option", [{"remat": "full"}, {"remat": "dots"}, {"unroll": 2}])
def test_rematerialisation_and_unrolling_change_no_number(option):
    cfg, params = _model()

    def loss(params, **kw):
        return lm.next_token_loss(params, cfg, {"tokens": TOKENS}, **kw)[0]

    expected = jax.value_and_grad(loss)(params)
    got = jax.value_and_grad(lambda p: loss(p, **option))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), got, expected)


@pytest.mark.parametrize("variant", ["llama", "gpt2", "shifted"])
def test_packed_segments_equal_separate_rows(variant):
    cfg, params = _model(variant, windows=(5, 5) if variant == "shifted" else ())
    a, b = TOKENS[:1, :8], TOKENS[1:2, :12]
    packed = np.concatenate([a, b], axis=1)
    segments = np.array([[1] * 8 + [2] * 12])
    out = lm.forward(params, cfg, packed, segment_ids=segments).logits
    np.testing.assert_allclose(out[:, :8], lm.forward(params, cfg, a).logits, atol=2e-5)
    np.testing.assert_allclose(out[:, 8:], lm.forward(params, cfg, b).logits, atol=2e-5)
    sums = [lm.next_token_loss(params, cfg, {"tokens": t}) for t in (a, b)]
    total = lm.next_token_loss(params, cfg, {"tokens": packed, "segment_ids": segments})
    np.testing.assert_allclose(total, np.sum(sums, axis=0), rtol=1e-5)


def test_explicit_positions():
    cfg, params = _model("gpt2")
    positions = np.arange(20)[None].repeat(3, 0)
    plain = lm.forward(params, cfg, TOKENS).logits
    np.testing.assert_allclose(lm.forward(params, cfg, TOKENS, positions=positions).logits, plain)
    moved = lm.forward(params, cfg, TOKENS, positions=positions + 1).logits
    assert np.max(np.abs(moved - plain)) > 1e-3


def test_token_shift_by_brute_force():
    cfg, params = _model("shifted")
    out = lm.forward(params, cfg, TOKENS, attention_mask=MASK, output_hidden_states=True)
    embed, shift = np.asarray(params["embed"]["w"]), np.asarray(params["embed"]["shift"])
    for row in range(3):
        seen = []
        for t in np.flatnonzero(MASK[row]):
            expected = embed[TOKENS[row, t]].copy()
            for j, token in enumerate(reversed(seen[-2:])):
                expected += shift[j, token]
            np.testing.assert_allclose(out.hidden_states[0, row, t], expected, atol=1e-5)
            seen.append(TOKENS[row, t])


@given(middle=st.integers(0, 3), right=st.integers(0, 3))
def test_padding_anywhere_changes_nothing(middle, right):
    cfg, params = _model("shifted", n_layers=1)
    tokens = TOKENS[0, :6]
    slots = 12
    left = slots - 6 - middle - right
    places = [*range(left, left + 3), *range(left + 3 + middle, left + 6 + middle)]
    padded = np.full((1, slots), 9)
    mask = np.zeros((1, slots), int)
    padded[0, places], mask[0, places] = tokens, 1
    out = lm.forward(params, cfg, padded, attention_mask=mask).logits
    np.testing.assert_allclose(
        out[0, np.array(places)], lm.forward(params, cfg, tokens[None]).logits[0], atol=2e-5
    )


@pytest.mark.parametrize("variant", ["llama", "gpt2", "phi", "shifted"])
def test_rows_of_padding_give_finite_outputs_and_gradients(variant):
    cfg, params = _model(variant)
    mask = MASK.copy()
    mask[0] = False

    def loss(params):
        batch = {"tokens": TOKENS, "attention_mask": mask}
        return lm.next_token_loss(params, cfg, batch)[0]

    out = lm.forward(params, cfg, TOKENS, attention_mask=mask)
    assert np.all(np.isfinite(out.logits))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(jax.grad(loss)(params)))


@pytest.mark.parametrize("how", ["compute_dtype", "params"])
def test_bfloat16_keeps_logits_and_loss_in_float32(how):
    cfg, params = _model("qwen3")
    exact = lm.forward(params, cfg, TOKENS).logits
    kw = {"compute_dtype": jnp.bfloat16} if how == "compute_dtype" else {}
    if how == "params":
        params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    out = lm.forward(params, cfg, TOKENS, **kw)
    assert out.logits.dtype == jnp.float32
    assert out.hidden.dtype == jnp.bfloat16
    assert np.max(np.abs(out.logits - exact)) < 0.1 * np.max(np.abs(exact))
    total, weight = lm.next_token_loss(params, cfg, {"tokens": TOKENS}, **kw)
    assert total.dtype == weight.dtype == jnp.float32
    gradient = jax.grad(lambda p: lm.next_token_loss(p, cfg, {"tokens": TOKENS}, **kw)[0])(params)
    assert gradient["layers"]["attn"]["wq"].dtype == params["layers"]["attn"]["wq"].dtype


def test_vmap_over_parameters():
    cfg, params = _model()
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    both = jax.jit(jax.vmap(lambda p: lm.forward(p, cfg, TOKENS).logits))(many)
    np.testing.assert_allclose(both[0], lm.forward(params, cfg, TOKENS).logits, atol=1e-4)


def test_forward_mode_derivative():
    cfg, params = _model(n_layers=1)

    def loss(params):
        # Attention that returns its probabilities; the other has a backward pass of its own.
        kw = {"output_attentions": True}
        return lm.next_token_loss(params, cfg, {"tokens": TOKENS}, **kw)[0]

    gradient = jax.grad(loss)(params)
    _, slope = jax.jvp(loss, (params,), (gradient,))
    squared = sum(float(jnp.sum(g * g)) for g in jax.tree.leaves(gradient))
    assert float(slope) == pytest.approx(squared, rel=1e-3)


def test_apply_fn_and_repeated_calls_do_not_retrace():
    cfg, params = _model()
    apply_fn = lm.make_apply_fn(cfg, attention_mask=MASK)
    expected = lm.forward(params, cfg, TOKENS, attention_mask=MASK).logits
    np.testing.assert_array_equal(apply_fn(params, TOKENS), expected)
    counted = jax.jit(lambda p, t: apply_fn(p, t))
    for _ in range(3):
        counted(params, TOKENS)
    assert counted._cache_size() == 1


@pytest.mark.parametrize(
    ("tokens", "kw", "match"),
    [
        (np.zeros(5, int), {}, "tokens"),
        (np.zeros((1, 5), np.float32), {}, "tokens"),
        (np.zeros((1, 5), int), {"attention_mask": np.ones((1, 4))}, "attention_mask"),
        (np.zeros((1, 5), int), {"attention_mask": np.ones(5)}, "attention_mask"),
        (np.zeros((1, 5), int), {"segment_ids": np.ones((2, 5))}, "segment_ids"),
        (np.zeros((1, 5), int), {"positions": np.ones((1, 6))}, "positions"),
        (np.zeros((1, 5), int), {"remat": "some"}, "remat"),
    ],
)
def test_bad_inputs(tokens, kw, match):
    cfg, params = _model()
    with pytest.raises(ValueError, match=match):
        lm.forward(params, cfg, tokens, **kw)


def test_more_tokens_than_learned_positions():
    cfg, params = _model("gpt2")
    tokens = np.zeros((1, 65), int)
    everything, halves = np.ones((1, 65), int), np.arange(65)[None] // 33
    for more in ({}, {"attention_mask": everything}, {"segment_ids": everything}):
        with pytest.raises(ValueError, match="65 tokens exceed the 64 learned positions"):
            lm.forward(params, cfg, tokens, **more)
    with pytest.raises(ValueError, match="65 tokens exceed"):
        jax.jit(lm.make_apply_fn(cfg))(params, tokens)
    with pytest.raises(ValueError, match="70 tokens exceed"):
        lm.forward(params, cfg, tokens[:, :1], positions=np.full((1, 1), 69))
    padded = everything.copy()
    padded[0, :3] = 0
    for more in ({"attention_mask": padded}, {"segment_ids": halves}):
        assert lm.forward(params, cfg, tokens, **more).logits.shape == (1, 65, 97)


def test_ids_that_a_model_does_not_have():
    cfg = tiny.config("gpt2")
    mask = np.array([[0, 1, 1]])
    lm.check_ids(cfg, [[97, 0, 96]], mask)
    lm.check_ids(cfg, np.zeros((2, 64), int))
    lm.check_ids(tiny.config(), np.zeros((2, 65), int))  # rotary positions have no end
    for ids in ([[0, 97, 0]], [[0, 0, -1]]):
        with pytest.raises(ValueError, match="the vocabulary 0 to 96; was another tokenizer used"):
            lm.check_ids(cfg, ids, mask)
    with pytest.raises(ValueError, match="65 tokens exceed the 64 learned positions"):
        lm.check_ids(cfg, np.zeros((2, 65), int))
    lm.check_ids(cfg, np.zeros((2, 65), int), segment_ids=np.arange(130).reshape(2, 65) // 33)
