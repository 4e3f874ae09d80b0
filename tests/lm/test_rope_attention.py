"""Rotary embedding, norms and attention against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import lm
from jaxlab.lm.attention import attend, attend_causal
from jaxlab.lm.norms import layer_norm, rms_norm
from jaxlab.lm.rope import apply_rope, rope_frequencies, rope_tables
from tests.lm import tiny


def test_norms_by_hand():
    rng = np.random.default_rng(0)
    x, scale, bias = rng.normal(size=(3, 7)), rng.normal(size=7), rng.normal(size=7)
    rms = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale
    np.testing.assert_allclose(rms_norm(jnp.float32(x), jnp.float32(scale), 1e-5), rms, rtol=1e-5)
    layer = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    ours = layer_norm(jnp.float32(x), jnp.float32(scale), jnp.float32(bias), 1e-5)
    np.testing.assert_allclose(ours, layer * scale + bias, rtol=1e-4, atol=1e-6)


def test_norm_statistics_are_float32():
    x = jnp.full((1, 4096), 300.0, jnp.bfloat16)  # the sum of squares is beyond bfloat16's steps
    y = rms_norm(x, jnp.ones(4096, jnp.bfloat16), 0.0)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y.astype(jnp.float32), 1.0)


def test_rotation_by_hand():
    cfg = tiny.config(rope_fraction=0.5, head_dim=8, rope_theta=100.0)
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 8))
    cos, sin = rope_tables(cfg, jnp.array([[0, 1, 5]]))
    ours = np.asarray(apply_rope(jnp.float32(x), cos, sin))
    for t, position in enumerate((0, 1, 5)):
        for j, inverse in enumerate((1.0, 0.1)):
            turn = np.exp(1j * position * inverse)
            turned = (x[0, t, :, j] + 1j * x[0, t, :, j + 2]) * turn
            np.testing.assert_allclose(ours[0, t, :, j], turned.real, atol=1e-6)
            np.testing.assert_allclose(ours[0, t, :, j + 2], turned.imag, atol=1e-6)
    np.testing.assert_array_equal(ours[..., 4:], np.float32(x[..., 4:]))


def test_an_odd_rotary_dimension_rotates_one_more_component():
    cfg = tiny.config(rope_fraction=0.25)  # r = 3 of 12
    frequencies, _, _ = rope_frequencies(cfg)
    np.testing.assert_allclose(frequencies, [1.0, 1e4 ** (-2 / 3)], rtol=1e-6)


@given(shift=st.integers(0, 500), a=st.integers(0, 20), b=st.integers(0, 20))
def test_scores_depend_on_the_distance_alone(shift, a, b):
    cfg = tiny.config()
    q, k = np.random.default_rng(1).normal(size=(2, 1, 1, 1, 12)).astype(np.float32)

    def score(i, j):
        turned = [apply_rope(x, *rope_tables(cfg, jnp.array([[p]]))) for x, p in ((q, i), (k, j))]
        return float(jnp.sum(turned[0] * turned[1]))

    assert abs(score(a, b) - score(a + shift, b + shift)) < 2e-3


def test_longrope_switches_on_positions_and_on_cache_slots():
    scaling = lm.RopeScaling(
        "longrope", original_max_seq_len=8, short_factor=(1.0,) * 6, long_factor=(2.0,) * 6
    )
    cfg = tiny.config(rope_scaling=scaling)
    short, long, scale = rope_frequencies(cfg)
    assert scale == pytest.approx(np.sqrt(1 + np.log(64 / 8) / np.log(8)))

    def angle(last, **kw):
        cos, sin = rope_tables(cfg, jnp.array([[1, last]]), **kw)
        return np.arctan2(sin[0, 0], cos[0, 0])

    np.testing.assert_allclose(angle(7), short, rtol=1e-5)
    np.testing.assert_allclose(angle(8), long, rtol=1e-5)
    np.testing.assert_allclose(angle(1, cache_slots=8), short, rtol=1e-5)
    np.testing.assert_allclose(angle(1, cache_slots=9), long, rtol=1e-5)


def _reference_attention(q, k, v, visible):
    B, T, H, d = q.shape
    group = H // k.shape[2]
    out = np.zeros((B, T, H, d))
    probs = np.zeros((B, H, T, k.shape[1]))
    for b in range(B):
        for h in range(H):
            logits = q[b, :, h] @ k[b, :, h // group].T / np.sqrt(d)
            logits = np.where(visible[b % len(visible)], logits, -1e30)
            p = np.exp(logits - logits.max(-1, keepdims=True))
            probs[b, h] = p / p.sum(-1, keepdims=True)
            out[b, :, h] = probs[b, h] @ v[b, :, h // group]
    return out.reshape(B, T, H * d), probs


@pytest.mark.parametrize("length", [1, 63, 130])
def test_attention_by_hand(length):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(2, length, 4, 6))
    k, v = rng.normal(size=(2, 2, length, 2, 6))
    visible = np.tril(np.ones((length, length), bool))[None].repeat(2, 0)
    visible[1, :, : length // 2] = False  # left padding: rows that see nothing
    out, probs = _reference_attention(q, k, v, visible)
    args = (*map(jnp.float32, (q, k, v)), jnp.asarray(visible))
    ours, ours_probs = attend(*args)
    np.testing.assert_allclose(ours, out, atol=1e-5)
    np.testing.assert_allclose(ours_probs, probs, atol=1e-5)
    sees = visible.any(-1)  # what sees nothing is averaged over other keys, and finite
    causal = attend_causal(*args)
    np.testing.assert_allclose(causal[sees], out[sees], atol=1e-5)
    assert np.all(np.isfinite(causal))


def test_attention_gradients_through_blocks():
    rng = np.random.default_rng(1)
    q = jnp.float32(rng.normal(size=(1, 150, 2, 4)))
    k, v = jnp.float32(rng.normal(size=(2, 1, 150, 1, 4)))
    visible = jnp.tril(jnp.ones((1, 150, 150), bool)).at[:, :, :9].set(False)

    def loss(out):
        return jnp.sum(out[:, 9:] ** 2)

    whole = jax.grad(lambda *x: loss(attend(*x, visible)[0]), (0, 1, 2))(q, k, v)
    blocks = jax.grad(lambda *x: loss(attend_causal(*x, visible)), (0, 1, 2))(q, k, v)
    for a, b in zip(whole, blocks, strict=True):
        assert np.all(np.isfinite(b))
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_second_derivatives_through_blocks():
    rng = np.random.default_rng(2)
    q = jnp.float32(rng.normal(size=(1, 70, 4, 3)))
    k, v = jnp.float32(rng.normal(size=(2, 1, 70, 2, 3)))
    visible = jnp.tril(jnp.ones((1, 70, 70), bool))

    def slope(attention):
        gradient = jax.grad(lambda k: jnp.sum(attention(q, k, v, visible) ** 3))
        return jax.grad(lambda k: jnp.sum(gradient(k) * jnp.cos(k)))(k)

    whole = slope(lambda *x: attend(*x)[0])
    np.testing.assert_allclose(slope(attend_causal), whole, atol=1e-3 * np.abs(whole).max())


def test_attention_softmax_is_float32_in_bfloat16_models():
    q = jnp.full((1, 1, 1, 4), 8.0, jnp.bfloat16)
    k = jnp.stack([jnp.full((4,), 8.0), jnp.full((4,), 8.0625)])[None, :, None].astype(jnp.bfloat16)
    v = jnp.eye(2, 4, dtype=jnp.bfloat16)[None, :, None]
    out, probs = attend(q, k, v, jnp.ones((1, 1, 2), bool))
    assert out.dtype == probs.dtype == jnp.bfloat16
    logits = np.array([128.0, 129.0])  # bfloat16 has steps of 1 here
    np.testing.assert_allclose(
        np.float32(probs[0, 0, 0]),
        np.exp(logits - logits.max()) / np.exp(logits - 129).sum(),
        rtol=1e-2,
    )
