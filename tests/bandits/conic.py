"""The inner problem stated as a second-order cone program, for Clarabel itself.

CVXPY states it too, but its index of the cone outgrows memory at 100,000 arms.
"""

import clarabel
import numpy as np
from scipy import sparse


def solve(values, se2, radius):
    """Maximum of `values . Delta` over the trust region, in float64."""
    values, se2 = np.asarray(values, np.float64), np.asarray(se2, np.float64)
    seen = np.isfinite(se2)
    c, s = values[seen], se2[seen]
    # Values from the best, and x = Delta over the reference, so that every entry is near one.
    reference = (1 / s) / np.sum(1 / s)
    gain = reference * (c - c.max())
    scale = np.abs(gain).max() or 1.0
    num_arms = c.size
    identity = sparse.identity(num_arms, format="csc")
    constraints = sparse.vstack(
        [
            sparse.csc_matrix(reference),  # sum Delta = 0
            -identity,  # reference + Delta >= 0, over the reference
            sparse.csc_matrix((1, num_arms)),  # the radius, constant
            -sparse.diags(reference * np.sqrt(s) / radius),  # the norm, over the radius
        ],
        format="csc",
    )
    bounds = np.concatenate([[0.0], np.ones(num_arms), [1.0], np.zeros(num_arms)])
    cones = [
        clarabel.ZeroConeT(1),
        clarabel.NonnegativeConeT(num_arms),
        clarabel.SecondOrderConeT(num_arms + 1),
    ]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    nothing = sparse.csc_matrix((num_arms, num_arms))
    solver = clarabel.DefaultSolver(nothing, -gain / scale, constraints, bounds, cones, settings)
    solution = solver.solve()
    if solution.status != clarabel.SolverStatus.Solved:
        raise RuntimeError(f"Clarabel ended with {solution.status}")
    return float(gain @ solution.x)
