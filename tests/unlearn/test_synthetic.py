"""The logistic model of Theorem 2 and the mixture of Markov chains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import entropy

from jaxlab import unlearn
from jaxlab.unlearn.chain_model import ChainTransformer
from jaxlab.unlearn.random_features import draw_problem, fit, unlearning_path

RNG = np.random.default_rng(0)
X, Y, THETA = RNG.normal(size=(4, 9)), np.array([0, 1, 1, 0]), RNG.normal(size=9)


@pytest.mark.parametrize("loss", ["ga", "npo"])
def test_curve_equals_a_plain_loop(loss):
    signed, beta = (2 * Y - 1)[:, None] * X, 0.7

    def log_prob(theta):
        return np.log(expit(signed @ theta))

    theta, expected = THETA.copy(), [0.0]
    for _ in range(5):
        ratio = beta * (log_prob(theta) - log_prob(THETA))
        weight = 1 if loss == "ga" else 2 * expit(ratio)
        slope = (weight * expit(-signed @ theta)) @ signed / 4
        theta = theta - 0.3 * slope
        expected.append(np.linalg.norm(X @ (theta - THETA)))
    with jax.enable_x64(True):
        got = unlearn.divergence_curve(X, Y, THETA, loss=loss, lr=0.3, num_steps=5, beta=beta)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_ascent_leaves_linearly_and_npo_logarithmically():
    ascent, preference = (
        unlearn.divergence_curve(X, Y, THETA, loss=loss, lr=0.5, num_steps=4000)
        for loss in ("ga", "npo")
    )
    assert ascent[4000] / ascent[2000] > 1.9
    assert preference[4000] / preference[2000] < 1.3


def test_labels_of_any_dtype_are_the_same_labels():
    settings = {"loss": "npo", "lr": 0.1, "num_steps": 3}
    want = unlearn.divergence_curve(X, Y, THETA, **settings)
    for dtype in (np.uint8, bool, np.float32):
        got = unlearn.divergence_curve(X, Y.astype(dtype), THETA, **settings)
        np.testing.assert_array_equal(got, want)


def test_curve_refuses():
    with pytest.raises(ValueError, match="loss must be one of ga, npo"):
        unlearn.divergence_curve(X, Y, THETA, loss="dpo", lr=1.0, num_steps=1)
    with pytest.raises(ValueError, match="beta must be > 0"):
        unlearn.divergence_curve(X, Y, THETA, loss="npo", lr=1.0, num_steps=1, beta=0)
    with pytest.raises(ValueError, match=r"got \(4, 9\), \(4,\) and \(4,\)"):
        unlearn.divergence_curve(X, Y, THETA[:4], loss="ga", lr=1.0, num_steps=1)
    with pytest.raises(ValueError, match="num_steps must be >= 0"):
        unlearn.divergence_curve(X, Y, THETA, loss="ga", lr=1.0, num_steps=-1)


def test_refusals_are_coins_that_know_nothing_of_the_labels():
    problem = draw_problem(jax.random.key(0), 1.0, num_forget=20_000)
    labels, refusals = np.asarray(problem.forget.labels), np.asarray(problem.refusals)
    for label in (0, 1):
        np.testing.assert_allclose(refusals[labels == label].mean(), 0.5, atol=0.03)


@pytest.mark.parametrize(("method", "retain"), [("ga", "none"), ("npo", "none"), ("npo", "nll")])
def test_path_on_random_features_equals_a_plain_loop(method, retain):
    beta, lr, steps = 0.3, 0.05, 6
    with jax.enable_x64(True):
        problem = draw_problem(jax.random.key(0), 1.0, num_retain=30, num_forget=8)
        initial, retrained = fit(problem, num_steps=50)
        form = unlearn.UnlearnConfig(method, retain)
        path = unlearning_path(
            problem, initial, retrained, form, beta, lr=lr, num_steps=steps, every=2
        )
        path = jax.device_get(path)
        (kept, kept_labels), (gone, gone_labels) = jax.device_get(
            (tuple(problem.retain), tuple(problem.forget))
        )
        fresh = jax.device_get((problem.fresh_forget, problem.fresh_retain))
        initial, retrained = jax.device_get((initial, retrained))

    def log_prob(theta, features, labels):
        return np.log(expit((2 * labels - 1) * (features @ theta)))

    def distances(theta):
        true, model = ([expit(points @ t) for points in fresh] for t in (retrained, theta))
        return [entropy([p, 1 - p], [q, 1 - q]).mean() for p, q in zip(true, model, strict=True)]

    theta, expected = initial.copy(), [distances(initial)]
    for step in range(1, steps + 1):
        ratio = beta * (log_prob(theta, gone, gone_labels) - log_prob(initial, gone, gone_labels))
        weight = 1 if method == "ga" else 2 * expit(ratio)
        slope = (weight * (gone_labels - expit(gone @ theta))) @ gone / 8
        if retain == "nll":
            slope = slope - (kept_labels - expit(kept @ theta)) @ kept / 30
        theta = theta - lr * slope
        if step % 2 == 0:
            expected.append(distances(theta))
    np.testing.assert_allclose(np.stack(path, 1), expected, rtol=1e-8)


def test_positions_of_the_chain_model_hardly_count_at_the_start():
    model = ChainTransformer(width=64, num_layers=1)
    params = model.init(jax.random.key(0), jnp.zeros((1, 20), jnp.int32))["params"]
    states, positions = (params[f"Embed_{i}"]["embedding"] for i in (0, 1))
    np.testing.assert_allclose([states.std(), positions.std()], [1.0, 0.02], rtol=0.1)
    biases = [
        layer["bias"]
        for name, layer in params.items()
        if name.startswith("Dense")
        if "bias" in layer
    ]
    assert len(biases) == 3
    for bias in biases:
        assert 0.05 < np.abs(bias).max() <= 1 / 8


def test_mixture_laws():
    mixture = unlearn.markov_mixture()
    np.testing.assert_allclose(mixture.init.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixture.trans.sum(-1), 1, rtol=1e-6)
    own = [0.8 / 3] * 3 + [0.2 / 7] * 7
    np.testing.assert_allclose(mixture.init[0], own, rtol=1e-6)
    np.testing.assert_allclose(mixture.trans[0, 2], own, rtol=1e-6)
    np.testing.assert_allclose(mixture.trans[1, 4], np.roll(own, 3), rtol=1e-6)
    np.testing.assert_allclose(mixture.trans[:, 9], 0.1, rtol=1e-6)
    np.testing.assert_allclose(mixture.trans[2, 0], 0.1, rtol=1e-6)


def test_samples_follow_the_law():
    mixture = unlearn.markov_mixture(num_states=4, leakage=0.1)
    tokens = unlearn.sample_markov(
        jax.random.key(0), mixture.init[0], mixture.trans[0], num=40_000, length=5
    )
    assert tokens.shape == (40_000, 5)
    assert tokens.dtype == jnp.int32
    tokens = np.asarray(tokens)
    np.testing.assert_allclose(np.bincount(tokens[:, 0]) / 40_000, mixture.init[0], atol=0.01)
    pairs = np.zeros((4, 4))
    np.add.at(pairs, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    np.testing.assert_allclose(pairs / pairs.sum(1, keepdims=True), mixture.trans[0], atol=0.02)
    one = unlearn.sample_markov(
        jax.random.key(0), mixture.init[0], mixture.trans[0], num=2, length=1
    )
    assert one.shape == (2, 1)


def test_divergence_from_the_chain():
    trans = np.array([[0.5, 0.5, 0], [0.2, 0.3, 0.5], [1, 0, 0]])
    logits, tokens = RNG.normal(size=(2, 4, 3)), RNG.integers(0, 3, (2, 4))
    model = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = [entropy(trans[tokens[b, t]], model[b, t]) for b in range(2) for t in range(3)]
    np.testing.assert_allclose(
        unlearn.markov_kl(logits, tokens, trans), np.mean(expected), rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"got \(2, 4, 3\), \(2, 4\) and \(4, 4\)"):
        unlearn.markov_kl(logits, tokens, np.eye(4))


def test_the_chain_itself_diverges_by_nothing():
    trans = np.array([[0.5, 0.5, 0], [0.2, 0.3, 0.5], [1, 0, 0]])
    tokens = RNG.integers(0, 3, (2, 5))
    with np.errstate(divide="ignore"):
        logits = np.log(trans)[tokens]  # -inf where the chain never goes
    np.testing.assert_allclose(unlearn.markov_kl(logits, tokens, trans), 0, atol=1e-6)
    gradient = jax.grad(unlearn.markov_kl)(jnp.asarray(logits), tokens, trans)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_states": 2}, "num_states must be >= 3, got 2"),
        ({"leakage": 1.0}, r"leakage must lie in \[0, 1\), got 1.0"),
        ({"leakage": -0.1}, r"leakage must lie in \[0, 1\), got -0.1"),
    ],
)
def test_mixture_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        unlearn.markov_mixture(**changes)
