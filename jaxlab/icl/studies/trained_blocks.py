"""IL2b, IL4 and IL4b: trained attention keeps its error, trained blocks become GD-beta."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlab.icl import figures
from jaxlab.icl.gd_beta import (
    gd_beta_predict,
    min_gd_beta_risk,
    optimal_gd_beta,
    project_to_gd_beta,
)
from jaxlab.icl.linear_block import effective, init_lsa, init_ltb, lsa_apply, ltb_apply
from jaxlab.icl.optimal_lsa import optimal_lsa
from jaxlab.icl.prompts import sample_prompts
from jaxlab.icl.risk import icl_risk
from jaxlab.icl.studies.settings import main_prior
from jaxlab.icl.training import fit_population, train
from jaxlab.runs import Claim, Run, holds, spread, study_key

_BLOCKS: dict[str, tuple[Callable, Callable]] = {
    "lsa": (init_lsa, lsa_apply),
    "ltb": (init_ltb, ltb_apply),
}
_KEPT = 500  # points of each training curve that the figure needs


def measure(config, run: Run) -> list[Claim]:
    """Trains both kinds on the exact risk and on fresh prompts, several seeds at once."""
    exact = {
        name: run.once(f"population_{name}", functools.partial(_population, config, name))
        for name in _BLOCKS
    }
    sampled = {
        name: run.once(f"sampled_{name}", functools.partial(_sampled, config, name))
        for name in _BLOCKS
    }
    levels = run.once("levels", lambda: _levels(config))
    optimum, floor = float(levels["lsa"]), float(levels["gd_beta"])
    run.figure("training_curves", figures.training_curves(exact, sampled, levels))
    run.figure("trained_weights", figures.trained_weights(exact["ltb"], levels))

    lsa_risks = [exact["lsa"]["risk"], sampled["lsa"]["risk"]]
    within = max(np.max(risks) / optimum - 1 for risks in lsa_risks)
    below = min(np.min(risks) - optimum for risks in lsa_risks)
    lost = np.abs(sampled["lsa"]["loss"] - sampled["lsa"]["risk"]) / sampled["lsa"]["loss_error"]
    distance = exact["ltb"]["distance"]
    ltb_excess = sampled["ltb"]["risk"] / floor - 1
    setting = f"d = {config.dim}, M = {config.num_context}, {config.num_seeds} seeds"
    return [
        Claim(
            "IL2b",
            "The error of linear attention remains after training",
            "",
            f"{spread(sampled['lsa']['risk'])} (fresh prompts), {spread(exact['lsa']['risk'])} "
            f"(exact risk); LSA optimum {optimum:.6g}, GD-beta minimum {floor:.6g}",
            holds(within < 0.01 and below > -1e-9 * optimum and lost.max() < 4),
            detail=f"{setting}. Criterion: within 1% of the optimum, exact risk never below it, "
            f"sampled loss within 4 standard errors of the exact risk (largest {lost.max():.1f}).",
        ),
        Claim(
            "IL4",
            "Every optimal LTB is effectively a GD-beta estimator",
            "0",
            f"{distance.max():.1e} of the prediction's root mean square",
            holds(distance.max() < 1e-3),
            detail=f"LTB trained on the exact risk, {setting}: largest relative RMS difference "
            f"from the optimal GD-beta on fresh prompts. Excess risk "
            f"{(exact['ltb']['risk'] - floor).max():.1e}; from its own projection "
            f"{exact['ltb']['projection_distance'].max():.1e}. Criterion: < 1e-3.",
        ),
        Claim(
            "IL4b",
            "The same on sampled prompts",
            "",
            f"{spread(sampled['ltb']['risk'])}; minimum {floor:.6g}",
            holds(ltb_excess.max() < 0.01),
            detail=f"Exact risk of LTBs after {config.sampled_steps} Adam steps on fresh prompts, "
            f"{setting}; loss on {config.test_prompts} new prompts "
            f"{spread(sampled['ltb']['loss'])}. Criterion: every seed within 1% of the minimum.",
        ),
    ]


def _levels(config) -> dict:
    with jax.enable_x64(True):
        prior = main_prior(config)
        best = optimal_gd_beta(prior, config.num_context)
        return {
            "lsa": optimal_lsa(prior, config.num_context).risk,
            "gd_beta": min_gd_beta_risk(prior, config.num_context),
            "beta": best.beta,
            "Gamma": best.Gamma,
        }


def _optimizer(peak: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(peak, steps))


def _initial(config, name: str, dtype):
    keys = jax.random.split(study_key(config, 7), config.num_seeds)
    params = jax.vmap(lambda key: _BLOCKS[name][0](key, config.dim))(keys)
    return jax.tree.map(lambda x: x.astype(dtype), params)


def _population(config, name: str) -> dict:
    """Training on the exact risk in float64; curves of the excess above the end's optimum."""
    with jax.enable_x64(True):
        prior, M = main_prior(config), config.num_context
        steps = config.population_steps
        fit = functools.partial(
            fit_population,
            prior=prior,
            num_context=M,
            num_steps=steps,
            optimizer=_optimizer(config.population_lr, steps),
        )
        params, loss = jax.vmap(lambda p: fit(p))(_initial(config, name, jnp.float64))
        risk = jax.vmap(lambda p: icl_risk(p, prior, M))(params)
        result = {"risk": risk, "loss_curve": loss[:, :: max(steps // _KEPT, 1)], "steps": steps}
        if name == "ltb":
            result |= _distances(config, prior, params)
        return result


def _distances(config, prior, params) -> dict:
    """Relative distances of trained functions to GD-beta, and their effective parameters."""
    M = config.num_context
    prompts = sample_prompts(study_key(config, 8), prior, M, 8192)
    best = gd_beta_predict(*optimal_gd_beta(prior, M), prompts.tokens)
    predictions = jax.vmap(lambda p: ltb_apply(p, prompts.tokens))(params)
    rms = jnp.sqrt(jnp.mean(jnp.square(predictions - best), 1) / jnp.mean(jnp.square(best)))
    projections = jax.vmap(lambda p: project_to_gd_beta(p, *prompts[:2]))(params)
    skip, value, query = jax.vmap(effective)(params)
    return {
        "distance": rms,
        "projection_distance": projections.distance,
        "skip": skip,
        "value": value,
        "query": query,
    }


def _sampled(config, name: str) -> dict:
    """Training on fresh prompts in float32; its exact risk, and its loss on new prompts."""
    prior, M = main_prior(config, np.float32), config.num_context
    steps, apply_fn = config.sampled_steps, _BLOCKS[name][1]
    keys = jax.random.split(study_key(config, 9), config.num_seeds)
    fit = functools.partial(
        train,
        apply_fn=apply_fn,
        prior=prior,
        num_context=M,
        num_steps=steps,
        batch_size=config.batch_size,
        optimizer=_optimizer(config.sampled_lr, steps),
    )
    params, loss = jax.vmap(lambda key, p: fit(key, p))(keys, _initial(config, name, jnp.float32))
    with jax.enable_x64(True):
        exact = jax.vmap(lambda p: icl_risk(p, main_prior(config), M))(
            jax.tree.map(lambda x: x.astype(jnp.float64), params)
        )
        mean, error = _test_loss(config, params, apply_fn)
    window = max(steps // _KEPT, 1)
    curve = loss[:, : steps // window * window].reshape(config.num_seeds, -1, window).mean(-1)
    return {
        "risk": exact,
        "loss": mean,
        "loss_error": error,
        "loss_curve": curve,
        "steps": steps,
    }


def _test_loss(config, params, apply_fn):
    """Mean squared error `[seeds]` on `test_prompts` new prompts, and its standard error."""
    prior, chunk = main_prior(config), 20_000

    @jax.jit
    def moments(key):
        prompts = sample_prompts(key, prior, config.num_context, chunk)
        predictions = jax.vmap(lambda p: apply_fn(p, prompts.tokens))(params)
        squares = jnp.square(predictions - prompts.target)
        return squares.mean(1), jnp.square(squares).mean(1)

    chunks = max(config.test_prompts // chunk, 1)
    keys = jax.random.split(study_key(config, 10), chunks)
    mean, square = (x.mean(0) for x in jax.lax.map(moments, keys))
    return mean, jnp.sqrt((square - mean**2) / (chunks * chunk))
