"""The task distribution that the studies share."""

import numpy as np

from jaxlab.icl.prior import TaskPrior, make_prior


def main_prior(config, dtype=np.float64) -> TaskPrior:
    """Isotropic tasks around a mean with equal entries."""
    return make_prior(np.full(config.dim, config.mean, dtype), noise_var=config.noise_var)
