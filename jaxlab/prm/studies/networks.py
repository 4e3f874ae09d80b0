"""One network that decomposes and answers, against two of half its size (claim A10).

Each of the two sees its own share of the same texts, in batches of that share for as many steps,
so that both together read as many tokens as the one.
"""

import jax
import numpy as np

from jaxlab import lm
from jaxlab.prm.decomposition import Decomposition
from jaxlab.prm.studies import measures
from jaxlab.prm.studies.config import TOY, AutoPRMConfig
from jaxlab.prm.studies.problems import draw_problems, plans_at
from jaxlab.prm.studies.stages import BASE_PLAN_SHARE, PLAN_SHARE, base_rows, gold_rows
from jaxlab.prm.studies.training import fit

TASKS = ("answers", "plans")


def half_network(config: AutoPRMConfig) -> lm.LMConfig:
    """The network of the even width at which two have the parameters of one."""
    whole = count(config.network())
    return min(
        (config.network(width) for width in range(2 * config.n_heads, config.d_model, 2)),
        key=lambda cfg: abs(2 * count(cfg) - whole),
    )


def count(cfg: lm.LMConfig) -> int:
    """How many parameters a network has."""
    return lm.count_params(jax.eval_shape(lambda key: lm.init_params(key, cfg), jax.random.key(0)))


def train_bases(config: AutoPRMConfig, taken: set[str]) -> dict[str, dict]:
    """What `stages.train_base` is to one network: parameters of each of the two, by its task."""
    cfg, rng = half_network(config), np.random.default_rng((config.seed, 1))
    keys = jax.random.split(jax.random.key(config.seed))
    params = {task: lm.init_params(key, cfg) for task, key in zip(TASKS, keys, strict=True)}
    for number in range(2):
        rows = base_rows(config, rng, taken)
        params = _fit(
            cfg, params, rows, config, BASE_PLAN_SHARE, config.base_steps, config.base_lr, number
        )
    return params


def measure(
    config: AutoPRMConfig,
    bases: dict[str, dict],
    seed: int,
    problems: list[Decomposition],
    taken: set[str],
) -> dict[str, float]:
    """Tunes the two as `stages.fine_tune` does the one.

    Returns:
      `own`, `gold`: final accuracy, greedy, with the plans of the one that decomposes and with the
      gold ones; `all_right`: share of those plans whose persons are the gold plan's.
    """
    cfg, rng = half_network(config), np.random.default_rng((config.seed, 2, seed))
    rows = gold_rows(rng, draw_problems(rng, TOY, config.sft_problems, set(taken)))
    params = _fit(cfg, bases, rows, config, PLAN_SHARE, config.sft_steps, config.sft_lr, seed)
    plans = plans_at(problems, config.epsilon)
    parsed = measures.own_plans(cfg, params["plans"], plans, config.epsilon)
    own, gold = measures.end_to_end(cfg, params["answers"], None, plans, parsed, config.epsilon)
    same = np.mean(measures.same_persons(parsed, plans))
    return {"own": own, "gold": gold, "all_right": float(same)}


def _fit(cfg, params, rows, config, plan_share, steps, lr, seed) -> dict[str, dict]:
    return {
        task: fit(
            cfg,
            params[task],
            [(pool, 1.0)],
            rows=round(share * config.batch_rows),
            steps=steps,
            lr=lr,
            seed=seed,
        )
        for task, share, pool in zip(TASKS, (1 - plan_share, plan_share), rows, strict=True)
    }
