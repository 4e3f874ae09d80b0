"""IL2 and IL8: what attention without an MLP cannot reach, and that a zero mean closes the gap."""

import jax
import numpy as np

from jaxlab.icl import figures
from jaxlab.icl.gd_beta import min_gd_beta_risk
from jaxlab.icl.linear_block import init_lsa
from jaxlab.icl.optimal_lsa import optimal_lsa
from jaxlab.icl.prior import make_prior
from jaxlab.icl.risk import icl_risk, lsa_gap_lower_bound
from jaxlab.runs import Claim, Run, holds, progress, study_key


def measure(config, run: Run) -> list[Claim]:
    """The gap over mean norms and context lengths; random layers against the bound."""
    result = run.once("gap", lambda: _gaps(config))
    zero = run.once("gap_zero_mean", lambda: _gaps_at_zero(config))["gap"]
    run.figure("attention_gap", figures.attention_gap(result, config))
    gap, bound = result["by_norm"]["gap"], result["by_norm"]["bound"]
    by_context = result["by_context"]
    never_below = (gap >= bound - 1e-9).all() and (
        by_context["gap"] >= by_context["bound"] - 1e-9
    ).all()
    at_zero = gap[np.asarray(config.gap_norms) == 0]
    return [
        Claim(
            "IL2",
            "Linear attention without the MLP suffers an irreducible additive approximation error",
            "",
            ", ".join(
                f"{abs(g):.3f} at |beta*| = {norm:.3g}"
                for norm, g in zip(config.gap_norms, gap, strict=True)
            ),
            holds(
                never_below and (np.abs(at_zero) < 1e-6).all() and result["random_excess"].min() > 0
            ),
            detail=f"Optimal LSA risk minus GD-beta minimum, d = {config.dim}, M = "
            f"{config.num_context}. Criterion: at least |beta*|_H^2 / (M + 1), zero at mean zero, "
            f"and none of {config.random_blocks} random layers below the bound. Irreducible at "
            "fixed M; it decays as 1/M.",
        ),
        Claim(
            "IL8",
            "With a zero prior mean, linear attention alone is as good as the block",
            "0",
            f"{np.abs(zero).max():.1e}",
            holds(np.abs(zero).max() < 1e-6),
            detail=f"Largest gap over {zero.size} settings of covariance and noise. Criterion: "
            "< 1e-6.",
        ),
    ]


def _prior(config, norm: float, noise_var: float):
    mean = np.full(config.dim, norm / np.sqrt(config.dim))
    return make_prior(mean, noise_var=noise_var)


def _gap(prior, num_context: int) -> tuple[float, float]:
    return optimal_lsa(prior, num_context).gap, float(lsa_gap_lower_bound(prior, num_context))


def _gaps(config) -> dict:
    with jax.enable_x64(True):
        by_norm = [
            _gap(_prior(config, norm, config.noise_var), config.num_context)
            for norm in progress(config.gap_norms, "gap by mean")
        ]
        main = _prior(config, config.mean * np.sqrt(config.dim), config.noise_var)
        by_context = [_gap(main, m) for m in progress(config.gap_contexts, "gap by context")]
        floor = min_gd_beta_risk(main, config.num_context) + lsa_gap_lower_bound(
            main, config.num_context
        )
        keys = jax.random.split(study_key(config, 3), config.random_blocks)
        scales = np.geomspace(0.05, 2, config.random_blocks)
        layers = jax.vmap(lambda key, scale: init_lsa(key, config.dim, scale=scale))(keys, scales)
        risks = jax.vmap(lambda params: icl_risk(params, main, config.num_context))(layers)
        return {
            "by_norm": dict(zip(("gap", "bound"), np.transpose(by_norm), strict=True)),
            "by_context": dict(zip(("gap", "bound"), np.transpose(by_context), strict=True)),
            "random_excess": risks - floor,
        }


def _gaps_at_zero(config) -> dict:
    """Zero mean, with covariances that do not commute and with little or much noise."""
    rng = np.random.default_rng(config.seed)
    with jax.enable_x64(True):
        gaps = []
        for noise_var in (0.05, 1.0):
            for _ in range(3):
                mix, root = rng.normal(size=(2, config.dim, config.dim))
                prior = make_prior(
                    np.zeros(config.dim),
                    task_cov=root @ root.T / config.dim,
                    input_cov=mix @ mix.T / config.dim + 0.3 * np.eye(config.dim),
                    noise_var=noise_var,
                )
                gaps.append(optimal_lsa(prior, config.num_context).gap)
        return {"gap": np.array(gaps)}
