import numpy as np
import pytest

from jaxlab import prm


def test_labels_from_rollouts():
    successes, counts = [0, 1, 4, 0], [4, 4, 4, 0]
    soft, valid = prm.mc_step_labels(successes, counts)
    np.testing.assert_allclose(soft, [0, 0.25, 1, 0])
    np.testing.assert_array_equal(valid, [True, True, True, False])
    hard, _ = prm.mc_step_labels(successes, counts, "hard")
    np.testing.assert_array_equal(hard, [0, 1, 1, 0])


def test_first_errors():
    labels = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 0], [0.5, 0.4, 1]])
    mask = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 1, 0]], bool)
    np.testing.assert_array_equal(prm.first_error(labels, mask), [1, 3, 2, 1])
    np.testing.assert_array_equal(
        prm.propagate_first_error(labels, mask), [[1, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0]]
    )


@pytest.mark.parametrize(
    ("pred", "gold", "want"),
    [
        ([0, 1, 3, 3], [0, 2, 3, 3], (2 * 0.5 * 1 / 1.5, 0.5, 1)),
        ([3, 3], [3, 3], (0, 0, 1)),
        ([0, 1], [1, 0], (0, 0, 0)),
        ([0, 2], [0, 2], (0, 1, 0)),
    ],
)
def test_f1_of_first_errors(pred, gold, want):
    np.testing.assert_allclose(
        prm.first_error_f1(np.array(pred), np.array(gold), 3), want, rtol=1e-6
    )


def test_refuses():
    with pytest.raises(ValueError, match="kind must be one of soft, hard, got 'mean'"):
        prm.mc_step_labels([1], [1], "mean")
    with pytest.raises(ValueError, match="shapes must be equal"):
        prm.first_error(np.ones((2, 3)), np.ones((2, 2)))
