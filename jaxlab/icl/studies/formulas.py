"""IL6: the closed-form risks against Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.icl.gd_beta import gd_beta_predict, gd_beta_risk, optimal_gd_beta
from jaxlab.icl.linear_block import init_lsa, init_ltb, lsa_apply, ltb_apply
from jaxlab.icl.prior import make_prior
from jaxlab.icl.prompts import sample_prompts
from jaxlab.icl.risk import icl_risk
from jaxlab.runs import Claim, Run, holds, study_key

_CHUNK = 50_000


def measure(config, run: Run) -> list[Claim]:
    """Four risks on a prior without symmetry: exact, sampled, and the difference in errors."""
    result = run.once("formulas", lambda: _estimates(config))
    deviation = np.abs(result["exact"] - result["sampled"]) / result["error"]
    return [
        Claim(
            "IL6",
            "The closed forms for the risk of GD-beta, LSA and LTB are exact",
            "",
            "; ".join(
                f"{name} {exact:.5g} vs {sampled:.5g} ± {error:.1g}"
                for name, exact, sampled, error in zip(
                    ("random GD-beta", "optimal GD-beta", "random LSA", "random LTB"),
                    result["exact"],
                    result["sampled"],
                    result["error"],
                    strict=True,
                )
            ),
            holds(deviation.max() < 4),
            detail=f"Formula against {config.test_prompts} prompts, ± one standard error. "
            f"Criterion: within 4 standard errors; largest {deviation.max():.2f}.",
        )
    ]


def _estimates(config) -> dict:
    dim, M = config.dim, config.num_context
    rng = np.random.default_rng(config.seed)
    with jax.enable_x64(True):
        mix, root = rng.normal(size=(2, dim, dim))
        prior = make_prior(
            rng.normal(size=dim),
            task_cov=root @ root.T / dim,
            input_cov=mix @ mix.T / dim + 0.3 * np.eye(dim),
            noise_var=config.noise_var,
        )
        drawn = rng.normal(size=dim), rng.normal(size=(dim, dim)) / dim
        best = optimal_gd_beta(prior, M)
        keys = jax.random.split(study_key(config, 5), 3)
        lsa, ltb = init_lsa(keys[0], dim, scale=0.5), init_ltb(keys[1], dim, scale=0.5)
        exact = [
            gd_beta_risk(*drawn, prior, M),
            gd_beta_risk(*best, prior, M),
            icl_risk(lsa, prior, M),
            icl_risk(ltb, prior, M),
        ]

        @jax.jit
        def moments(key):
            prompts = sample_prompts(key, prior, M, _CHUNK)
            tokens = prompts.tokens
            predictions = jnp.stack(
                [
                    gd_beta_predict(*drawn, tokens),
                    gd_beta_predict(*best, tokens),
                    lsa_apply(lsa, tokens),
                    ltb_apply(ltb, tokens),
                ]
            )
            squares = jnp.square(predictions - prompts.target)
            return squares.mean(1), jnp.square(squares).mean(1)

        chunks = max(config.test_prompts // _CHUNK, 1)
        mean, square = jax.lax.map(moments, jax.random.split(keys[2], chunks))
        mean, square = mean.mean(0), square.mean(0)
        error = jnp.sqrt((square - mean**2) / (chunks * _CHUNK))
        return {"exact": np.array(exact), "sampled": mean, "error": error}
