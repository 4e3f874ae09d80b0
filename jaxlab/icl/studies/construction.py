"""IL3: every GD-beta estimator is a linear transformer block."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.icl.gd_beta import gd_beta_predict, ltb_from_gd_beta
from jaxlab.icl.linear_block import ltb_apply
from jaxlab.icl.prior import make_prior
from jaxlab.icl.prompts import sample_prompts
from jaxlab.runs import Claim, Run, holds, study_key

SIZES = ((1, 1), (2, 8), (5, 10), (20, 40), (20, 5))  # (d, M)


def measure(config, run: Run) -> list[Claim]:
    """Largest difference of predictions between a GD-beta and the block built for it."""
    result = run.once("construction", lambda: _differences(config))
    double, single = result["float64"].max(), result["float32"].max()
    return [
        Claim(
            "IL3",
            "Every GD-beta estimator can be implemented by an LTB",
            "0",
            f"{double:.1e} (float64), {single:.1e} (float32)",
            holds(double < 1e-10 and single < 1e-4),
            detail="Largest absolute difference of predictions over random beta, non-symmetric "
            f"Gamma and sizes (d, M) in {SIZES}. Criterion: < 1e-10 and < 1e-4.",
        )
    ]


def _differences(config) -> dict:
    with jax.enable_x64(True):
        double = [_difference(config, number, np.float64) for number in range(len(SIZES))]
    single = [_difference(config, number, np.float32) for number in range(len(SIZES))]
    return {"float64": np.array(double), "float32": np.array(single)}


def _difference(config, number: int, dtype) -> float:
    dim, num_context = SIZES[number]
    rng = np.random.default_rng([config.seed, number])
    beta = rng.normal(size=dim).astype(dtype)
    Gamma = (rng.normal(size=(dim, dim)) / dim).astype(dtype)
    prior = make_prior(beta, noise_var=config.noise_var)

    @jax.jit
    def largest(key, beta, Gamma):
        tokens = sample_prompts(key, prior, num_context, 1000).tokens
        block = ltb_from_gd_beta(beta, Gamma, key_dim=dim + 2)
        return jnp.abs(ltb_apply(block, tokens) - gd_beta_predict(beta, Gamma, tokens)).max()

    return float(largest(jax.random.fold_in(study_key(config, 4), number), beta, Gamma))
