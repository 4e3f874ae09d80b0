import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import prm


def batch(seed, shape=(4, 6)):
    rng = np.random.default_rng(seed)
    logp, old, ref = -rng.exponential(size=(3, *shape))
    advantages = rng.normal(size=shape)
    mask = rng.random(shape) < 0.6
    mask[-1] = False
    return logp, old, ref, advantages, mask


def reduce_by_hand(values, mask, agg):
    if agg == "token":
        return values[mask].mean()
    if agg == "constant":
        return values[mask].sum() / mask.size
    return np.mean([row[m].mean() for row, m in zip(values, mask, strict=True) if m.any()])


@given(st.integers(0, 10**6), st.sampled_from(["token", "sequence", "constant"]))
@settings(max_examples=15)
def test_against_the_formulas(seed, agg):
    logp, old, ref, advantages, mask = batch(seed)
    d = logp - old
    rho = np.exp(d)
    surrogate = -np.minimum(rho * advantages, np.clip(rho, 0.9, 1.3) * advantages)
    to_ref = logp - ref
    kl = reduce_by_hand(np.exp(-to_ref) - 1 + to_ref, mask, agg)
    policy = reduce_by_hand(surrogate, mask, agg)
    clipped = ((rho < 0.9) & (advantages < 0)) | ((rho > 1.3) & (advantages > 0))
    hidden = [np.where(mask, x, np.nan) for x in (logp, old, ref, advantages)]
    loss = prm.ppo_loss(
        hidden[0],
        hidden[1],
        hidden[3],
        mask,
        clip_low=0.1,
        clip_high=0.3,
        ref_logp=hidden[2],
        beta=0.04,
        agg=agg,
    )
    want = (policy + 0.04 * kl, policy, kl, clipped[mask].mean(), (np.expm1(d) - d)[mask].mean())
    np.testing.assert_allclose(loss, want, rtol=2e-5, atol=1e-6)


def test_gradient_flows_through_logp_alone_and_stops_where_clipped():
    logp, old, ref, advantages, mask = batch(3)

    def loss(logp, old, ref, advantages):
        return prm.ppo_loss(logp, old, advantages, mask, ref_logp=ref, beta=0.1).loss

    grads = jax.grad(loss, argnums=(0, 1, 2, 3))(*map(jnp.asarray, (logp, old, ref, advantages)))
    for grad in grads[1:]:
        assert (grad == 0).all()
    eps = 1e-6
    with jax.enable_x64(True):
        for b, t in ((0, 0), (1, 2), (2, 5)):
            moved = [logp.copy(), logp.copy()]
            moved[0][b, t] += eps
            moved[1][b, t] -= eps
            slope = (
                loss(moved[0], old, ref, advantages) - loss(moved[1], old, ref, advantages)
            ) / (2 * eps)
            np.testing.assert_allclose(grads[0][b, t], slope, atol=1e-5)
    assert (np.asarray(grads[0])[~mask] == 0).all()


def test_row_advantages_and_the_gradient_at_ratio_one():
    logp, _, _, _, mask = batch(4)
    rows = np.array([1.0, -2.0, 0.5, 3.0])
    whole = prm.ppo_loss(logp, logp, np.broadcast_to(rows[:, None], mask.shape), mask)
    np.testing.assert_allclose(prm.ppo_loss(logp, logp, rows, mask), whole)
    grad = jax.grad(lambda x: prm.ppo_loss(x, logp, rows, mask).loss)(jnp.asarray(logp))
    np.testing.assert_allclose(grad, -rows[:, None] * mask / mask.sum(), atol=1e-6)


@pytest.mark.parametrize("agg", ["token", "sequence", "constant"])
def test_nothing_valid_is_zero(agg):
    nan = jnp.full((2, 3), jnp.nan)
    off = jnp.zeros((2, 3), bool)
    loss, grad = jax.value_and_grad(
        lambda x: prm.ppo_loss(x, nan, nan, off, ref_logp=nan, beta=1.0, agg=agg).loss
    )(nan)
    assert loss == 0
    assert (grad == 0).all()
    value, grad = jax.value_and_grad(lambda x: prm.value_loss(x, nan, nan, off, agg=agg))(nan)
    assert value == 0
    assert (grad == 0).all()


def test_small_divergences_are_never_negative():
    d = np.float32(np.random.default_rng(0).uniform(-1e-2, 1e-2, 10_000))
    assert (np.asarray(prm.kl_estimate(d, np.zeros_like(d), "k3")) >= 0).all()
    exact = d.astype(np.float64)
    for kind, want in (("k1", exact), ("k2", exact**2 / 2), ("k3", np.exp(-exact) - 1 + exact)):
        np.testing.assert_allclose(prm.kl_estimate(d, 0 * d, kind), want, rtol=1e-3, atol=2e-9)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_value_loss(clip):
    rng = np.random.default_rng(1)
    values, old, returns = rng.normal(size=(3, 4, 6))
    mask = rng.random((4, 6)) < 0.5
    error = (values - returns) ** 2
    if clip:
        error = np.maximum(error, (old + np.clip(values - old, -clip, clip) - returns) ** 2)
    got = prm.value_loss(values, old, returns, mask, clip)
    np.testing.assert_allclose(got, 0.5 * error[mask].mean(), rtol=1e-5)


def test_bfloat16_is_computed_in_float32():
    logp, old, _, advantages, mask = batch(5)
    half = [jnp.asarray(x, jnp.bfloat16) for x in (logp, old, advantages)]
    loss = prm.ppo_loss(*half, mask)
    assert loss.loss.dtype == jnp.float32
    same = prm.ppo_loss(*[x.astype(jnp.float32) for x in half], mask)
    np.testing.assert_allclose(loss, same)


def test_jit_and_vmap():
    logp, old, _, advantages, mask = batch(6)
    want = prm.ppo_loss(logp, old, advantages, mask)
    np.testing.assert_allclose(jax.jit(prm.ppo_loss)(logp, old, advantages, mask), want, rtol=1e-6)
    stacked = [np.stack([x, x]) for x in (logp, old, advantages, mask)]
    np.testing.assert_allclose(jax.vmap(prm.ppo_loss)(*stacked).loss, [want.loss] * 2, rtol=1e-6)


def test_the_weight_of_the_divergence_may_be_traced():
    logp, old, ref, advantages, mask = batch(7)

    def loss(beta):
        return prm.ppo_loss(logp, old, advantages, mask, ref_logp=ref, beta=beta).loss

    want = [loss(beta) for beta in (0.0, 0.1)]
    np.testing.assert_allclose(jax.vmap(loss)(jnp.array([0.0, 0.1])), want, rtol=1e-6)
    with pytest.raises(ValueError, match="needs ref_logp"):
        jax.jit(lambda beta: prm.ppo_loss(logp, old, advantages, mask, beta=beta).loss)(0.1)


X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prm.ppo_loss(X, X[:1], X, X), r"logp \(2, 3\), old_logp \(1, 3\)"),
        (lambda: prm.ppo_loss(X, X, np.ones(3), X), r"advantages \(3,\)"),
        (
            lambda: prm.ppo_loss(X, X, X, X, agg="mean"),
            "agg must be one of token, sequence, constant",
        ),
        (lambda: prm.ppo_loss(X, X, X, X, beta=0.1), "beta 0.1 needs ref_logp"),
        (lambda: prm.ppo_loss(X, X, X, X, kl_kind="k4"), "kl_kind must be one of k1, k2, k3"),
        (lambda: prm.kl_estimate(X, X, "kl"), "kind must be one of k1, k2, k3, got 'kl'"),
        (lambda: prm.value_loss(X, X, X[:, :2], X), "shapes must be equal"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
