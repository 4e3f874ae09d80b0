"""Sampling and neighbourhoods of points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.arrays import is_concrete

_QUERIES_AT_ONCE = 4096


class Neighbors(NamedTuple):
    """The nearest points of each query, ascending.

    Attributes:
      indices: `[M, k]` int32.
      sq_dists: `[M, k]` squared distances.
    """

    indices: jax.Array
    sq_dists: jax.Array


class BallNeighbors(NamedTuple):
    """The nearest points inside a ball around each query, ascending.

    Attributes:
      indices: `[M, max_samples]` int32, padded with the nearest point of all.
      counts: `[M]` int32, points inside the ball, at most `max_samples`.
    """

    indices: jax.Array
    counts: jax.Array


def farthest_point_sample(
    points: jax.Array,
    num_samples: int,
    *,
    start: int | jax.Array | None = None,
    eligible: jax.Array | None = None,
) -> jax.Array:
    """Indices `[num_samples]` int32: each point is the farthest from those before it.

    No index comes twice; ties go to the lowest. A shorter sample is a prefix of a longer one, and
    the sample of a prefix (from its first point) is a prefix again.

    Args:
      points: `[N, D]`.
      num_samples: at most `N`.
      start: the first index; by default the point farthest from the centroid, so that the sample
        does not depend on the order of the points.
      eligible: `[N]` bool; the others come only when these are used up.

    Raises:
      ValueError: `num_samples` outside 1 to `N`.
    """
    points = jnp.asarray(points)
    count = points.shape[0]
    if not 1 <= num_samples <= count:
        raise ValueError(f"num_samples must be 1 to {count} points, got {num_samples}")

    def square_distance(point):
        return jnp.sum((points - point) ** 2, -1)

    def rank(distance):
        # Below every distance: first the points that come last, then those that were taken.
        return distance if eligible is None else jnp.where(eligible, distance, -0.5)

    if start is None:
        start = jnp.argmax(rank(square_distance(points.mean(0))))
    start = jnp.asarray(start, jnp.int32)

    def step(carry, _):
        nearest, taken, last = carry
        taken = taken.at[last].set(True)
        nearest = jnp.minimum(nearest, square_distance(points[last]))
        following = jnp.argmax(jnp.where(taken, -1.0, rank(nearest))).astype(jnp.int32)
        return (nearest, taken, following), last

    nearest = jnp.full(count, jnp.inf, points.dtype)
    carry = nearest, jnp.zeros(count, bool), start
    return jax.lax.scan(step, carry, length=num_samples)[1]


def knn(query: jax.Array, points: jax.Array, k: int) -> Neighbors:
    """The `k` nearest of `points` `[N, D]` to each of `query` `[M, D]`, nearest first.

    From differences of coordinates: the expanded form |a|^2 - 2ab + |b|^2 cancels in float32 for a
    cloud far from the origin.

    Raises:
      ValueError: `k` outside 1 to `N`.
    """
    query, points = jnp.asarray(query), jnp.asarray(points)
    count = points.shape[0]
    if not 1 <= k <= count:
        raise ValueError(f"k must be 1 to {count} points, got {k}")

    def nearest(row):
        return jax.lax.top_k(-jnp.sum((row - points) ** 2, -1), k)

    if query.shape[0] <= _QUERIES_AT_ONCE:
        negative, indices = jax.vmap(nearest)(query)
    else:
        negative, indices = jax.lax.map(nearest, query, batch_size=_QUERIES_AT_ONCE)
    return Neighbors(indices.astype(jnp.int32), -negative)


def ball_query(
    query: jax.Array, points: jax.Array, radius: float, max_samples: int
) -> BallNeighbors:
    """The nearest `max_samples` of `points` `[N, D]` within `radius` of each `query` `[M, D]`.

    Unlike the usual first found in index order, this does not depend on the order of the points.

    Raises:
      ValueError: `max_samples` outside 1 to `N`, or a radius that is not positive.
    """
    if is_concrete(radius) and radius <= 0:
        raise ValueError(f"radius must be positive, got {radius}")
    if not 1 <= max_samples <= points.shape[0]:
        raise ValueError(f"max_samples must be 1 to {points.shape[0]} points, got {max_samples}")
    indices, sq_dists = knn(query, points, max_samples)
    inside = sq_dists <= radius**2
    return BallNeighbors(
        jnp.where(inside, indices, indices[:, :1]), inside.sum(1).astype(jnp.int32)
    )
