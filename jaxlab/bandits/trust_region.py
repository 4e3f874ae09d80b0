"""The policies near the reference, and the exact maximum of a linear function over them.

The reference `mu` minimises the variance of its value estimate, `mu_i ~ 1 / se2_i`. The trust
region of radius eps holds the improvements `Delta` with

    mu + Delta >= 0,   sum Delta = 0,   sum Delta_i^2 se2_i <= eps^2,

which are the policies whose value estimate has at most the reference's variance plus eps^2. A
linear objective `c` is maximised by a threshold policy `w_i ~ (c_i - nu)_+ / se2_i`: one sort
finds `nu` for every radius at once, and every sum below has terms of one sign, so that float32 is
accurate to a few ulp whatever the offset or spread of the data.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.arrays import as_float, is_concrete
from jaxlab.checks import check_at_least, check_equal_shapes


def reference_policy(se2: ArrayLike) -> jax.Array:
    """The minimum-variance policy `[K]`, proportional to `1 / se2`; 0 for arms without data.

    Raises:
      ValueError: `se2` is not a vector of positive numbers with a finite one.
    """
    return _reference(check_se2(se2)).policy


def radius_grid(se2: ArrayLike, num_radii: int = 20, decay: float = 1.3) -> jax.Array:
    """Radii `[R]` falling by `decay` from the smallest that contains every single arm.

    Raises:
      ValueError: `num_radii` below 1, `decay` not above 1, or an `se2` as in `reference_policy`.
    """
    check_at_least("num_radii", num_radii, 1)
    if is_concrete(decay) and not decay > 1:
        raise ValueError(f"decay must be > 1, got {decay}")
    se2 = check_se2(se2)
    finite = jnp.isfinite(se2)
    excess = jnp.where(finite, se2, 0) - _reference(se2).variance
    largest = jnp.sqrt(jnp.maximum(excess.max(), 0))
    return largest * jnp.asarray(decay, se2.dtype) ** -jnp.arange(num_radii, dtype=se2.dtype)


def trust_region_support(values: ArrayLike, se2: ArrayLike, radii: ArrayLike) -> jax.Array:
    """The largest improvement `max_Delta values . Delta` in each trust region.

    Concave and increasing in the radius; its gradient in `values` is the maximiser.

    Args:
      values: `[K]` objective; anything finite where `se2` is infinite.
      se2: `[K]` variances of the empirical means, infinite where there is no data.
      radii: `[]` or `[R]`, >= 0.

    Returns:
      Improvements in the shape of `radii`.

    Raises:
      ValueError: shapes that differ, a value that is not finite for an arm with data, a radius
        that is negative or NaN, or an `se2` as in `reference_policy`.
    """
    values, se2 = check_values(values, se2)
    radii = check_radii(radii, values.dtype)
    return support_of(values, se2, radii)


def trust_region_argmax(values: ArrayLike, se2: ArrayLike, radius: ArrayLike) -> jax.Array:
    """The maximiser `Delta` `[K]` of `trust_region_support` at one radius; it sums to 0.

    Raises:
      ValueError: as `trust_region_support`.
    """
    values, se2 = check_values(values, se2)
    radius = check_radii(radius, values.dtype)
    if radius.ndim:
        raise ValueError(f"radius must be a scalar, got shape {radius.shape}; vmap over radii")
    return argmax_of(values, se2, radius)


@jax.jit
def support_of(values: jax.Array, se2: jax.Array, radii: jax.Array) -> jax.Array:
    """`trust_region_support` of arrays that were checked, for traced code."""
    return support_along(solve(values, se2), radii)


@jax.jit
def argmax_of(values: jax.Array, se2: jax.Array, radius: jax.Array) -> jax.Array:
    """`trust_region_argmax` of arrays that were checked, for traced code."""
    return argmax_along(solve(values, se2), radius)


def check_se2(se2: ArrayLike) -> jax.Array:
    """Returns `se2` as a float vector, or raises ValueError that names it."""
    se2 = as_float(se2)
    if se2.ndim != 1 or not se2.size:
        raise ValueError(f"se2 must be a vector [K], got shape {se2.shape}")
    if is_concrete(se2):
        seen = np.asarray(se2)
        if not (seen > 0).all():
            raise ValueError(f"se2 must be positive, got {seen[~(seen > 0)][0]}")
        if not np.isfinite(seen).any():
            raise ValueError("se2 is infinite for every arm: there is no data")
    return se2


def check_values(values: ArrayLike, se2: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns both as vectors of one float dtype, or raises ValueError that says what differs."""
    values, se2 = as_float(values), check_se2(se2)
    check_equal_shapes(values=values, se2=se2)
    if is_concrete(values, se2) and not np.isfinite(values)[np.isfinite(se2)].all():
        raise ValueError("values hold NaN or infinity for an arm with data")
    return values, se2.astype(values.dtype)


def check_radii(radii: ArrayLike, dtype) -> jax.Array:
    """Returns `radii` as floats of `dtype`, or raises ValueError for a negative or NaN one."""
    radii = jnp.asarray(radii, dtype)
    if radii.ndim > 1:
        raise ValueError(f"radii must be a scalar or a vector, got shape {radii.shape}")
    if is_concrete(radii) and not (np.asarray(radii) >= 0).all():
        raise ValueError(f"radii must be >= 0, got {radii}")
    return radii


class _Reference(NamedTuple):
    policy: jax.Array  # [K]
    variance: jax.Array  # [] of its value estimate, 1/S


def _reference(se2: jax.Array) -> _Reference:
    # Relative to the best-known arm, so that no scale of the rewards leaves float range.
    least = se2.min()
    precision = least / se2
    total = precision.sum()
    return _Reference(precision / total, least / total)


class Path(NamedTuple):
    """The solutions at all radii.

    Attributes:
      values: `[K]` the objective, with the worst value for arms without data.
      reference: the policy and the variance of its value estimate.
      sorted_values: `[K]` descending; entry k of this and of the following keeps the k+1 best.
      head: `[K]` reference mass of the arms kept.
      tail: `[K]` reference mass of the others.
      above: `[K]` mean of the arms kept minus the worst of them.
      spread: `[K]` variance of the values of the arms kept.
      gain: `[K]` mean of the arms kept minus the mean of all.
      breakpoint: `[K]` eps^2 S at which the next arm leaves; non-increasing.
    """

    values: jax.Array
    reference: _Reference
    sorted_values: jax.Array
    head: jax.Array
    tail: jax.Array
    above: jax.Array
    spread: jax.Array
    gain: jax.Array
    breakpoint: jax.Array


def solve(values: jax.Array, se2: jax.Array) -> Path:
    """Sorts once for every radius, of arrays that were checked."""
    values, reference = _inert(values, se2), _reference(se2)
    negative, mass = jax.lax.sort((-values, reference.policy), num_keys=1)
    c = -negative
    head, tail = _sums_from_both_ends(mass, jnp.append(mass[1:], 0))
    gap = jnp.append(c[:-1] - c[1:], 0)
    # g_k = m_k - c_{k+1}: how far the mean of the k best lies above the next arm.
    g = _safe_divide(jnp.cumsum(head * gap), head)
    before = jnp.append(0, g[:-1])
    kept = jnp.append(0, head[:-1])
    above = _safe_divide(before * kept, head)
    # m_k - m_K as a sum of the steps by which each further arm lowers the mean.
    steps = jnp.append(_safe_divide(mass[1:], head[1:]) * g[:-1], 0)
    squares, gain = _sums_from_both_ends(mass * before * above, steps)
    spread = _safe_divide(squares, head)
    leaves = _safe_divide(tail + _safe_divide(spread, jnp.square(g)), head)
    breakpoint = jnp.where((g > 0) & (head > 0), leaves, jnp.inf).at[-1].set(-1)
    return Path(values, reference, c, head, tail, above, spread, gain, breakpoint)


def support_along(path: Path, radii: jax.Array) -> jax.Array:
    """The largest improvements in the shape of `radii`."""
    k, slack = _locate(path, radii)
    improvement = path.gain[k] + _safe_sqrt(path.spread[k] * slack)
    return jnp.minimum(improvement, path.gain[0])


def argmax_along(path: Path, radius: jax.Array) -> jax.Array:
    """The maximiser `[K]` at one radius."""
    mu = path.reference.policy
    k, slack = _locate(path, radius)
    stretch = _safe_sqrt(_safe_divide(slack, path.spread[k]))
    lift = (path.values - path.sorted_values[k]) - path.above[k]
    inside = mu * (path.tail[k] + lift * stretch) / path.head[k]
    return jnp.where(path.values >= path.sorted_values[k], jnp.maximum(inside, -mu), -mu)


def _inert(values: jax.Array, se2: jax.Array) -> jax.Array:
    """Gives arms without data the worst value of those with data, so that they change nothing."""
    seen = jnp.isfinite(se2)
    worst = jnp.where(seen, values, jnp.inf).min()
    return jnp.where(seen, values, worst)


def _sums_from_both_ends(front: jax.Array, back: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`front` summed up to each entry and `back` summed from it on, `[K]` each, in one scan."""
    sums = jnp.cumsum(jnp.stack([front, back[::-1]]), axis=1)
    return sums[0], sums[1][::-1]


def _locate(path: Path, radii: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Index of the threshold at each radius, and `A_k eps^2 S - T_k`, what is left to spend."""
    budget = jnp.square(radii) / path.reference.variance
    k = jax.lax.stop_gradient(jnp.searchsorted(-path.breakpoint, -budget))
    return k, jnp.maximum(path.head[k] * budget - path.tail[k], 0)


def _safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """`numerator / denominator`, 0 where the denominator is, with finite gradients."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), 0)


def _safe_sqrt(x: jax.Array) -> jax.Array:
    """`sqrt(x)` with gradient 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
