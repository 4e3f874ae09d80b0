"""Unlearning a logistic model on random features: two clouds of points, one to be forgotten.

Axes: n points, d = 16 inputs, m = 128 features. Labels are 0 or 1; `pi(y = 1 | x) = sigmoid(theta .
relu(W x))` with W drawn once. The data follow the class probabilities exactly, so what retraining
would give is known, and distance to it can be measured on fresh points.

Source: Zhang, Lin, Bai and Mei, arXiv 2404.05868, section 4 and Appendix D.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.unlearn.methods import UnlearnConfig
from jaxlab.unlearn.preference_losses import dpo_loss, npo_loss

INPUTS = 16
FEATURES = 128


class Points(NamedTuple):
    """Features `[n, m]` of points and their labels `[n]`."""

    features: jax.Array
    labels: jax.Array


class Problem(NamedTuple):
    """What is kept and what is forgotten, to train on and to measure on.

    Attributes:
      retain: 1000 points.
      forget: 200 points.
      refusals: `[200]` fair coins, the preferred labels of the forget points.
      fresh_retain, fresh_forget: features `[1000, m]` of new points.
    """

    retain: Points
    forget: Points
    refusals: jax.Array
    fresh_retain: jax.Array
    fresh_forget: jax.Array


class Distances(NamedTuple):
    """Mean divergence from the retrained model on fresh forget and on fresh retain points, nats."""

    forget: jax.Array
    retain: jax.Array


def draw_problem(
    key: jax.Array, alpha: float, *, num_retain: int = 1000, num_forget: int = 200
) -> Problem:
    """A problem whose clouds lie at -alpha and alpha in every coordinate.

    Args:
      key: for everything.
      alpha: 1 separates the clouds, 0 lays them over each other.
      num_retain, num_forget: points to train on.
    """
    keys = jax.random.split(key, 6)
    weights = jax.random.normal(keys[0], (FEATURES, INPUTS)) / INPUTS**0.5

    def cloud(key: jax.Array, center: float, direction: float, count: int) -> Points:
        place_key, label_key = jax.random.split(key)
        offset = jax.random.normal(place_key, (count, INPUTS))
        logit = direction * (offset.sum(1) / INPUTS**0.5 + 1)
        labels = jax.random.bernoulli(label_key, jax.nn.sigmoid(logit))
        return Points(jax.nn.relu((center + offset) @ weights.T), labels.astype(logit.dtype))

    return Problem(
        cloud(keys[1], -alpha, -1.0, num_retain),
        cloud(keys[2], alpha, 1.0, num_forget),
        jax.random.bernoulli(keys[5], 0.5, (num_forget,)).astype(float),
        cloud(keys[3], -alpha, -1.0, 1000).features,
        cloud(keys[4], alpha, 1.0, 1000).features,
    )


@functools.partial(jax.jit, static_argnames="num_steps")
def fit(problem: Problem, *, lr: float = 0.05, num_steps: int = 20_000) -> jax.Array:
    """Parameters `[2, m]` of the initial model (all points) and the retrained one (retain only).

    Both by full-batch gradient descent on the mean log-loss, from zero, at once.
    """
    features = jnp.concatenate([problem.retain.features, problem.forget.features])
    labels = jnp.concatenate([problem.retain.labels, problem.forget.labels])
    kept = jnp.arange(labels.size) < problem.retain.labels.size
    weights = jnp.stack([jnp.full(labels.size, 1 / labels.size), kept / kept.sum()])

    def step(theta, _):
        residual = jax.nn.sigmoid(theta @ features.T) - labels
        return theta - lr * (weights * residual) @ features, None

    start = jnp.zeros((2, features.shape[1]), features.dtype)
    return jax.lax.scan(step, start, length=num_steps)[0]


@functools.partial(jax.jit, static_argnames=("form", "num_steps", "every"))
def unlearning_path(
    problem: Problem,
    initial: jax.Array,
    retrained: jax.Array,
    form: UnlearnConfig,
    beta: float,
    *,
    lr: float,
    num_steps: int,
    every: int,
) -> Distances:
    """Distances `[num_steps / every + 1]` along full-batch gradient descent from the initial model.

    Args:
      problem: the points.
      initial, retrained: `[m]` from `fit`.
      form: method `ga`, `npo`, `idk` or `dpo`, its coefficient, and retain term `none` or `nll`;
        static, so its beta is not used.
      beta: inverse temperature.
      lr: stepsize.
      num_steps, every: steps, and how often to measure.
    """
    reference = log_prob(initial, problem.forget.features, problem.forget.labels)
    ref_refusal = log_prob(initial, problem.forget.features, problem.refusals)

    def objective(theta):
        logp = log_prob(theta, problem.forget.features, problem.forget.labels)
        refusal = log_prob(theta, problem.forget.features, problem.refusals)
        match form.method:
            case "ga":
                loss = logp.mean()
            case "npo":
                loss = npo_loss(logp, reference, beta=beta).mean()
            case "idk":
                loss = -refusal.mean()
            case "dpo":
                loss = dpo_loss(refusal, logp, ref_refusal, reference, beta=beta).mean()
        loss = form.forget_coeff * loss
        if form.retain == "nll":
            loss = loss - log_prob(theta, *problem.retain).mean()
        return loss

    def distances(theta):
        return Distances(
            _divergence(retrained, theta, problem.fresh_forget),
            _divergence(retrained, theta, problem.fresh_retain),
        )

    def step(theta, _):
        return theta - lr * jax.grad(objective)(theta), None

    def stretch(theta, _):
        theta = jax.lax.scan(step, theta, length=every)[0]
        return theta, distances(theta)

    path = jax.lax.scan(stretch, initial, length=num_steps // every)[1]
    return jax.tree.map(
        lambda start, rest: jnp.concatenate([start[None], rest]), distances(initial), path
    )


def log_prob(theta: jax.Array, features: jax.Array, labels: jax.Array) -> jax.Array:
    """log pi(label | features) `[n]`, nats."""
    return jax.nn.log_sigmoid((2 * labels - 1) * (features @ theta))


def _divergence(true: jax.Array, theta: jax.Array, features: jax.Array) -> jax.Array:
    """Mean divergence of the Bernoulli laws of two parameters, from the first to the second."""
    zeros, ones = jnp.zeros(len(features)), jnp.ones(len(features))
    terms = [
        jnp.exp(log_prob(true, features, y))
        * (log_prob(true, features, y) - log_prob(theta, features, y))
        for y in (zeros, ones)
    ]
    return sum(terms, zeros).mean()
