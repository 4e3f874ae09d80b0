import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from scipy.spatial import cKDTree

from jaxlab import splat
from jaxlab.splat import neighbors


def points_of(count, seed, dim=3):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def greedy(points, count, start):
    chosen, nearest = [start], ((points - points[start]) ** 2).sum(-1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(-1))
    return chosen


@hypothesis.given(st.integers(2, 40), st.integers(0, 1000), st.data())
def test_farthest_points_are_the_greedy_choice(count, seed, data):
    points = points_of(count, seed)
    samples = data.draw(st.integers(1, count))
    start = int(((points - points.mean(0)) ** 2).sum(-1).argmax())
    got = splat.farthest_point_sample(points, samples)
    assert got.dtype == np.int32
    assert got.tolist() == greedy(points.astype(np.float64), samples, start)


def test_farthest_points_do_not_depend_on_the_order():
    points = points_of(50, 0)
    order = np.random.default_rng(1).permutation(50)
    a = points[splat.farthest_point_sample(points, 20)]
    b = points[order][splat.farthest_point_sample(points[order], 20)]
    np.testing.assert_array_equal(a, b)


def test_farthest_points_are_distinct_also_among_duplicates():
    points = np.repeat(points_of(3, 0), 4, axis=0)
    chosen = splat.farthest_point_sample(points, 12, start=5)
    assert chosen[0] == 5
    assert sorted(chosen.tolist()) == list(range(12))
    assert len(np.unique(points[chosen[:3]], axis=0)) == 3


def test_a_prefix_of_the_sample_samples_the_sample():
    points = points_of(60, 2)
    order = splat.farthest_point_sample(points, 30)
    again = splat.farthest_point_sample(points[order], 15, start=0)
    assert again.tolist() == list(range(15))


def test_ineligible_points_come_last():
    points = points_of(20, 3)
    eligible = np.arange(20) % 2 == 0
    chosen = splat.farthest_point_sample(points, 14, eligible=eligible)
    assert eligible[chosen[:10]].all()
    assert not eligible[chosen[10:]].any()


@pytest.mark.parametrize("shift", [0.0, 60.0])
def test_nearest_points_are_scipys_also_far_from_the_origin(shift):
    points = points_of(80, 4) + np.float32(shift)
    query = points[:30] + np.float32(0.01)
    got = splat.knn(query, points, 7)
    distances, indices = cKDTree(points.astype(np.float64)).query(query, 7)
    np.testing.assert_array_equal(got.indices, indices)
    np.testing.assert_allclose(got.sq_dists, distances**2, rtol=1e-3, atol=1e-5)
    assert got.indices.dtype == np.int32


def test_many_queries_go_in_parts(monkeypatch):
    points = points_of(40, 5, dim=5)
    whole = splat.knn(points, points, 3)
    monkeypatch.setattr(neighbors, "_QUERIES_AT_ONCE", 16)
    parts = splat.knn(points, points, 3)
    np.testing.assert_array_equal(whole.indices, parts.indices)
    assert (whole.indices[:, 0] == np.arange(40)).all()


def test_ball_holds_the_nearest_inside():
    points, query = points_of(60, 6), points_of(10, 7)
    radius, most = 0.9, 8
    got = splat.ball_query(query, points, radius, most)
    for n in range(10):
        distance = np.linalg.norm(points - query[n], axis=1)
        inside = [int(i) for i in np.argsort(distance) if distance[i] <= radius][:most]
        assert got.counts[n] == len(inside)
        padded = inside + [int(distance.argmin())] * (most - len(inside))
        assert got.indices[n].tolist() == padded
    traced = jax.jit(splat.ball_query, static_argnums=3)(query, points, radius, most)
    np.testing.assert_array_equal(traced.indices, got.indices)


def test_batches_by_vmap():
    batch = np.stack([points_of(20, s) for s in range(3)])
    indices = jax.vmap(lambda p: splat.farthest_point_sample(p, 6))(batch)
    for n in range(3):
        np.testing.assert_array_equal(indices[n], splat.farthest_point_sample(batch[n], 6))


def test_refuses():
    points = points_of(5, 0)
    for count in (0, 6):
        with pytest.raises(ValueError, match=f"num_samples must be 1 to 5 points, got {count}"):
            splat.farthest_point_sample(points, count)
        with pytest.raises(ValueError, match=f"k must be 1 to 5 points, got {count}"):
            splat.knn(points, points, count)
        with pytest.raises(ValueError, match=f"max_samples must be 1 to 5 points, got {count}"):
            splat.ball_query(points, points, 0.1, count)
    with pytest.raises(ValueError, match="radius must be positive, got 0"):
        splat.ball_query(points, points, 0.0, 2)
