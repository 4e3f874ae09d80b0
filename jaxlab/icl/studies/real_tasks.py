"""The estimators on a collection of real regression tasks: an illustration without a claim."""

import functools

import jax
import jax.numpy as jnp
import optax

from jaxlab.icl import figures
from jaxlab.icl.bayes import bayes_predict
from jaxlab.icl.gd_beta import gd_beta_predict, optimal_gd_beta
from jaxlab.icl.linear_block import init_lsa, init_ltb, lsa_apply, ltb_apply
from jaxlab.icl.optimal_lsa import optimal_lsa
from jaxlab.icl.regression_tasks import (
    RegressionTasks,
    diabetes_tasks,
    estimate_prior,
    load_tasks,
    sample_task_prompts,
)
from jaxlab.icl.training import train_on_tasks
from jaxlab.runs import Claim, Run, digest, study_key

_TEST_PROMPTS = 20_000
_LEAST_TASKS = 3  # two for the prior, one held out


def measure(config, run: Run) -> list[Claim]:
    """Risk on held-out tasks, as a figure and a table; it makes no claim.

    Raises:
      ValueError: a file of fewer than three tasks, or of tasks with too few rows for the noise.
    """
    if config.data is None:
        try:
            tasks, name, phase = diabetes_tasks(), "diabetes, age strata", "real_tasks"
        except ImportError:
            return []  # scikit-learn is an extra, and so is the illustration
    else:
        tasks, name = load_tasks(config.data), config.data
        # Another file under the same name is another phase.
        phase = f"real_tasks_{digest(tasks)}"
    if len(tasks.X) < _LEAST_TASKS:
        raise ValueError(
            f"{name} must hold at least {_LEAST_TASKS} tasks, two for the prior and one held out, "
            f"got {len(tasks.X)}"
        )
    risks = run.once(phase, lambda: _risks(config, tasks))
    run.write_json("real_tasks.json", {"data": name, "held_out_risk": risks})
    run.figure("real_tasks", figures.real_tasks(risks, name))
    return []


def _risks(config, tasks: RegressionTasks) -> dict:
    """Mean squared error on prompts from the last quarter of the tasks."""
    count, size, dim = tasks.X.shape
    M = min(config.num_context, size - 1)
    cut = max(count * 3 // 4, 2)
    seen, held_out = (
        RegressionTasks(*(part[s] for part in tasks)) for s in (slice(None, cut), slice(cut, None))
    )
    init_key, train_key, test_key = jax.random.split(study_key(config, 13), 3)
    prior = jax.tree.map(lambda x: x.astype(jnp.float32), estimate_prior(seen))
    steps = config.task_steps
    fit = functools.partial(
        train_on_tasks,
        train_key,
        X=jnp.asarray(seen.X, jnp.float32),
        y=jnp.asarray(seen.y, jnp.float32),
        num_context=M,
        num_steps=steps,
        batch_size=config.batch_size,
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(3e-3, steps))
        ),
    )
    lsa = fit(params=init_lsa(init_key, dim), apply_fn=lsa_apply).params
    ltb = fit(params=init_ltb(init_key, dim), apply_fn=ltb_apply).params
    prompts = sample_task_prompts(
        test_key,
        jnp.asarray(held_out.X, jnp.float32),
        jnp.asarray(held_out.y, jnp.float32),
        num_context=M,
        batch_size=_TEST_PROMPTS,
    )
    tokens = prompts.tokens
    best_lsa = optimal_lsa(prior, M).params

    @jax.jit
    def risks(tokens, target):
        predictions = {
            "prior mean only": tokens[:, :-1, -1] @ prior.mean,
            "Bayes": bayes_predict(prior, tokens),
            "GD-beta": gd_beta_predict(*optimal_gd_beta(prior, M), tokens),
            "LSA optimum": lsa_apply(best_lsa, tokens),
            "LSA trained": lsa_apply(lsa, tokens),
            "LTB trained": ltb_apply(ltb, tokens),
        }
        return {name: jnp.square(guess - target).mean() for name, guess in predictions.items()}

    return risks(tokens, prompts.target)
