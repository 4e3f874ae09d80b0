import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def blobs(rng):
    """40 separable samples of norm at most 1 in 5 dimensions."""
    w_star = rng.normal(size=5)
    X = rng.normal(size=(400, 5))
    X /= np.linalg.norm(X, axis=1).max()
    X = X[np.abs(X @ w_star) > 0.1 * np.linalg.norm(w_star)][:40]
    return X, np.sign(X @ w_star)
