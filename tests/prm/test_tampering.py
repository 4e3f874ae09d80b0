import jax
import numpy as np

from jaxlab.prm.tampering import reading_drift


def test_the_easier_reading_wins_where_the_verifier_cannot_tell():
    drift = jax.device_get(reading_drift([1, 1], [0.95, 0.6], [1, 1], [False, True], 5))
    easy = 0.95**5 / (0.95**5 + 0.6**5)
    np.testing.assert_allclose(drift.weights[-1, 0], easy, rtol=1e-5)
    np.testing.assert_allclose(
        drift.reward[[0, -1]], [0.775, 0.95 * easy + 0.6 * (1 - easy)], rtol=1e-5
    )
    np.testing.assert_allclose(drift.right[[0, -1]], [0.3, 0.6 * (1 - easy)], rtol=1e-5)
    assert (np.diff(drift.reward) > 0).all()
    assert (np.diff(drift.right) < 0).all()


def test_with_context_the_right_reading_wins_at_once():
    drift = reading_drift([1, 1], [0.95, 0.6], [0, 1], [False, True], 3)
    np.testing.assert_allclose(drift.weights[1:, 1], 1)
    np.testing.assert_allclose(drift.right[1:], 0.6, rtol=1e-6)


def test_starts_are_an_axis():
    starts = np.array([[1.0, 1.0], [3.0, 1.0]])
    together = jax.vmap(lambda w: reading_drift(w, [0.9, 0.5], [1, 1], [0, 1], 2).right)(starts)
    alone = [reading_drift(w, [0.9, 0.5], [1, 1], [0, 1], 2).right for w in starts]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
