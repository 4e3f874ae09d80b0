"""The task distribution that the studies share."""

import jax
import numpy as np

from jaxlab.icl.prior import TaskPrior, make_prior


def main_prior(config, dtype=np.float64) -> TaskPrior:
    """Isotropic tasks around a mean with equal entries."""
    return make_prior(np.full(config.dim, config.mean, dtype), noise_var=config.noise_var)


def study_key(config, number: int) -> jax.Array:
    """A key of its own for each study, so that one alone draws what it draws among all."""
    return jax.random.fold_in(jax.random.key(config.seed), number)
