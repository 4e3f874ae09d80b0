"""The Perceptron, one sample at a time and in batch: at most R^2 / margin^2 updates."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.sparse import BCOO
from jax.typing import ArrayLike

from jaxlab.checks import check_at_least, check_choice
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
    mask: ArrayLike | None = None,
) -> PerceptronResult:
    """Visits samples and adds `y_i x_i` to w wherever `y_i x_i.w <= 0`, until a pass is clean.

    Works under jit and vmap.

    Args:
      X: samples, [n, d].
      y: labels of +-1, [n].
      max_passes: where to give up (data that no plane separates).
      order: "cyclic", or "random": a new permutation for each pass.
      key: for the random order.
      mask: [n], False where a row is padding and counts nowhere; by default every row counts.

    Raises:
      ValueError: shapes that do not fit, an unknown order, a random order without key.

    Reference: Novikoff, On convergence proofs for perceptrons (1962).
    """
    check_choice("order", order, ORDERS)
    if order == "random" and key is None:
        raise ValueError("order='random' needs a key: pass key=jax.random.key(seed)")
    check_at_least("max_passes", operator.index(max_passes), 1)
    X, y = linear_model.check_dataset(X, y)
    mask = _checked_mask(mask, y.shape[0])
    return _perceptron(X, y, mask, max_passes, key if order == "random" else None)


@jax.jit
def _perceptron(X, y, mask, max_passes, key):
    rows = y[:, None] * X, mask
    num_samples = y.shape[0]

    def visit(w, row):
        sample, counts = row
        with jax.default_matmul_precision(linear_model.PRECISION):
            mistake = sample @ w <= 0
        if counts is not None:
            mistake = mistake & counts
        return jnp.where(mistake, w + sample, w), mistake

    def one_pass(state: PerceptronResult):
        visited = rows
        if key is not None:
            pass_key = jax.random.fold_in(key, state.num_passes)
            permutation = jax.random.permutation(pass_key, num_samples)
            visited = jax.tree.map(lambda part: part[permutation], rows)
        w, mistakes = jax.lax.scan(visit, state.w, visited)
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
    X: ArrayLike | BCOO,
    y: ArrayLike,
    *,
    max_steps: int = 10000,
    normalize: bool = True,
    mask: ArrayLike | None = None,
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
      mask: as in `perceptron`.

    Raises:
      ValueError: shapes that do not fit.
    """
    check_at_least("max_steps", operator.index(max_steps), 1)
    X, y = linear_model.check_dataset(X, y)
    return _batch_perceptron(X, y, _checked_mask(mask, y.shape[0]), max_steps, normalize)


@functools.partial(jax.jit, static_argnames="normalize")
def _batch_perceptron(X, y, mask, max_steps, normalize):
    num_samples = X.shape[0] if mask is None else mask.sum()

    def look(w):
        wrong = linear_model.margins(X, y, w) <= 0
        return wrong if mask is None else wrong & mask

    def step(state):
        w, wrong, steps = state
        count = wrong.sum() if normalize else num_samples
        w = w + linear_model.weighted_sum(X, y, wrong.astype(y.dtype)) / count
        return w, look(w), steps + 1

    def unfinished(state):
        _, wrong, steps = state
        return wrong.any() & (steps < max_steps)

    w = jnp.zeros(X.shape[1], X.dtype)
    w, wrong, steps = jax.lax.while_loop(unfinished, step, (w, look(w), jnp.zeros((), jnp.int32)))
    return PerceptronResult(w, steps, steps, ~wrong.any())


def _checked_mask(mask: ArrayLike | None, num_samples: int) -> jax.Array | None:
    if mask is None:
        return None
    mask = jnp.asarray(mask, bool)
    if mask.shape != (num_samples,):
        raise ValueError(f"mask must have one entry per sample, ({num_samples},), got {mask.shape}")
    return mask
