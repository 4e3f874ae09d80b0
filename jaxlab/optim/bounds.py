"""What the theory promises, to be held against what a run measures."""


def log_risk_bound(eta, margin, t, *, slope=1.0, kappa=0.0):
    """Upper bound on ln L after t steps, `kappa - eta (slope^2 margin^2 t - 1) / 2`.

    For the exponential loss, data of norm at most 1 and w_0 = 0, it holds for every eta > 0 and
    t >= 1: for wbar_t and for the best of w_0, ..., w_{t-1} of a linear model (slope 1, kappa 0),
    and for the best iterate of a two-layer network whose activation has derivatives in [slope, 1]
    and `|sigma(v) - sigma'(v) v| <= kappa`. Elementwise in NumPy or JAX arrays.

    Source: the split-optimization argument of arXiv 2504.04105, with the constant 1/2: GD with the
    constant stepsize eta on the convex, 1-Lipschitz ln L, against the comparator margin eta t w*.
    """
    return kappa - eta * (slope**2 * margin**2 * t - 1) / 2
