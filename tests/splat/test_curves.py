import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab.splat.backbones import curves

CELLS = np.array(list(itertools.product(range(8), repeat=3)), np.uint32)


def test_z_order_interleaves_bits():
    cells = np.array([[0b11, 0b01, 0b10], [1023, 1023, 1023]], np.uint32)
    assert curves.z_order(jnp.asarray(cells)).tolist() == [0b101_110, 2**30 - 1]


def test_hilbert_visits_every_cell_of_a_cube_and_steps_to_a_face():
    places = np.asarray(curves.hilbert_order(jnp.asarray(CELLS)))
    assert sorted(places.tolist()) == list(range(512))  # a cube of 8^3 comes before all else
    path = CELLS[np.argsort(places)].astype(int)
    steps = np.abs(np.diff(path, axis=0)).sum(1)
    assert (steps == 1).all()


@pytest.mark.parametrize("curve", ["z", "hilbert"])
@pytest.mark.parametrize("swapped", [False, True])
def test_order_does_not_depend_on_that_of_the_points(curve, swapped):
    rng = np.random.default_rng(0)
    points = np.round(rng.normal(size=(60, 3)), 1).astype(np.float32)  # many share a cell
    order = rng.permutation(60)
    a = points[curves.curve_order(points, curve, swapped)]
    b = points[order][curves.curve_order(jnp.asarray(points[order]), curve, swapped)]
    np.testing.assert_array_equal(a, b)


def test_a_single_place_has_a_cell():
    assert curves.to_cells(jnp.full((4, 3), 2.5)).max() == 0
