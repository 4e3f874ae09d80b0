"""Priors without any symmetry, for tests: a mean, and covariances that do not commute."""

import numpy as np

from jaxlab import icl


def generic_prior(seed=0, dim=3, *, noise_var=0.7, rank=None, dtype=np.float64):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(dim, rank or dim))
    mix = rng.normal(size=(dim, dim))
    return icl.make_prior(
        rng.normal(size=dim).astype(dtype),
        task_cov=root @ root.T / dim,
        input_cov=mix @ mix.T / dim + 0.3 * np.eye(dim),
        noise_var=noise_var,
    )
