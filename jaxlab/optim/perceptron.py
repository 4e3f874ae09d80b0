"""The Perceptron, one sample at a time and in batch: at most R^2 / margin^2 updates."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.sparse import BCOO
from jax.typing import ArrayLike

from jaxlab.checks import check_choice
from jaxlab.optim import linear_model

ORDERS = ("cyclic", "random")


class PerceptronResult(NamedTuple):
    """Where a Perceptron stopped.

    Attributes:
      w: weights, [d].
      num_updates: updates made; int32.
      num_passes: passes over the data, the final one without a mistake included; int32.
      converged: whether every margin is positive; bool.
    """

    w: jax.Array
    num_updates: jax.Array
    num_passes: jax.Array
    converged: jax.Array


def perceptron(
    X: ArrayLike,
    y: ArrayLike,
    *,
    max_passes: int = 1000,
    order: str = "cyclic",
    key: jax.Array | None = None,
) -> PerceptronResult:
    """Visits samples and adds `y_i x_i` to w wherever `y_i x_i.w <= 0`, until a pass is clean.

    Works under jit and vmap.

    Args:
      X: samples, [n, d].
      y: labels of +-1, [n].
      max_passes: where to give up (data that no plane separates).
      order: "cyclic", or "random": a new permutation for each pass.
      key: for the random order.

    Raises:
      ValueError: shapes that do not fit, an unknown order, a random order without key.

    Reference: Novikoff, On convergence proofs for perceptrons (1962).
    """
    check_choice("order", order, ORDERS)
    if order == "random" and key is None:
        raise ValueError("order='random' needs a key: pass key=jax.random.key(seed)")
    _check_count("max_passes", max_passes)
    X, y = linear_model.check_dataset(X, y)
    return _perceptron(X, y, max_passes, key if order == "random" else None)


@jax.jit
def _perceptron(X, y, max_passes, key):
    signed = y[:, None] * X
    num_samples = y.shape[0]

    def visit(w, sample):
        mistake = sample @ w <= 0
        return jnp.where(mistake, w + sample, w), mistake

    def one_pass(state: PerceptronResult):
        rows = signed
        if key is not None:
            pass_key = jax.random.fold_in(key, state.num_passes)
            rows = signed[jax.random.permutation(pass_key, num_samples)]
        w, mistakes = jax.lax.scan(visit, state.w, rows)
        count = mistakes.sum(dtype=jnp.int32)
        return PerceptronResult(
            w, state.num_updates + count, state.num_passes + 1, converged=count == 0
        )

    def unfinished(state: PerceptronResult):
        return ~state.converged & (state.num_passes < max_passes)

    zero = jnp.zeros((), jnp.int32)
    start = PerceptronResult(jnp.zeros_like(X[0]), zero, zero, jnp.zeros((), bool))
    return jax.lax.while_loop(unfinished, one_pass, start)


def batch_perceptron(
    X: ArrayLike | BCOO, y: ArrayLike, *, max_steps: int = 10000, normalize: bool = True
) -> PerceptronResult:
    """Adds the mean of `y_i x_i` over the misclassified samples (`y_i x_i.w <= 0`) to w.

    Each step is an update and a pass, so `num_updates` = `num_passes` = steps. Works under jit and
    vmap.

    Args:
      X: samples, [n, d], dense or BCOO.
      y: labels of +-1, [n].
      max_steps: where to give up.
      normalize: divide by the number of misclassified samples (at most R^2 / margin^2 steps), or
        by n (n times as many).

    Raises:
      ValueError: shapes that do not fit.
    """
    _check_count("max_steps", max_steps)
    X, y = linear_model.check_dataset(X, y)
    return _batch_perceptron(X, y, max_steps, normalize)


@functools.partial(jax.jit, static_argnames="normalize")
def _batch_perceptron(X, y, max_steps, normalize):
    num_samples, dim = X.shape

    def look(w):
        return linear_model.margins(X, y, w) <= 0

    def step(state):
        w, wrong, steps = state
        count = wrong.sum() if normalize else num_samples
        w = w + linear_model.weighted_sum(X, y, wrong.astype(y.dtype)) / count
        return w, look(w), steps + 1

    def unfinished(state):
        _, wrong, steps = state
        return wrong.any() & (steps < max_steps)

    w = jnp.zeros(dim, X.dtype)
    w, wrong, steps = jax.lax.while_loop(unfinished, step, (w, look(w), jnp.zeros((), jnp.int32)))
    return PerceptronResult(w, steps, steps, ~wrong.any())


def _check_count(name: str, value: int) -> None:
    if operator.index(value) < 1:
        raise ValueError(f"{name} must be >= 1, got {value}")
