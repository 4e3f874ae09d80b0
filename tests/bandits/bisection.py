"""The inner problem by bisection on the threshold in float64: slow, obvious, independent."""

import numpy as np


def solve(values, se2, radius):
    """Maximum of `values . Delta` over the trust region, and its maximiser."""
    values, se2 = np.asarray(values, np.float64), np.asarray(se2, np.float64)
    seen = np.isfinite(se2)
    c, s = values[seen], se2[seen]
    total = np.sum(1 / s)
    reference = (1 / s) / total
    budget = 1 / total + radius**2

    def policy(nu):
        w = np.maximum(c - nu, 0) / s
        return w / w.sum()

    def spread(nu):
        return np.sum(policy(nu) ** 2 * s)

    best = c == c.max()
    w = np.where(best, 1 / s, 0)
    w /= w.sum()
    if np.ptp(c) == 0 or radius == 0:
        w = reference
    elif np.sum(w**2 * s) > budget:
        low, high = c.max() - 1e9 * np.ptp(c), c.max() - 1e-14 * np.ptp(c)
        for _ in range(400):
            middle = (low + high) / 2
            low, high = (middle, high) if spread(middle) < budget else (low, middle)
        w = policy(low)
    delta = np.zeros(values.shape)
    delta[seen] = w - reference
    return delta[seen] @ c, delta
