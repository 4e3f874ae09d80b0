"""GRPO in place of expert iteration: the candidates for one subquestion are a group.

Each candidate's tokens get the verifier's reward, normalised within its group; the rounds, their
problems and their sampling are those of AutoPRM.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.prm import sequential
from jaxlab.prm.advantages import group_advantages, informative_groups
from jaxlab.prm.compact import SEP, Plan
from jaxlab.prm.packing import Judged, pack_judged
from jaxlab.prm.policy_losses import ppo_loss
from jaxlab.prm.sequential import Rollout
from jaxlab.prm.steps import broadcast_steps
from jaxlab.prm.studies import rollouts
from jaxlab.prm.studies.arms import Improve
from jaxlab.prm.studies.config import MAX_ROW_STEPS, ROW_TOKENS, AutoPRMConfig
from jaxlab.prm.studies.stages import Stage
from jaxlab.prm.studies.training import fit


def by_group(config: AutoPRMConfig, stage: Stage) -> Improve:
    """A round of `arms.rounds`: samples, advantages within groups, clipped updates."""

    def improve(key: jax.Array, params: dict, plans: list[Plan], number: int):
        cfg = config.network()
        roll = rollouts.sample(
            key,
            params,
            stage.verifier,
            cfg,
            plans,
            epsilon=config.epsilon,
            cgd=stage.cgd,
            choose=sequential.first_accepted,
            k=config.k,
        )
        judged, groups = group_candidates(roll, plans, cgd=stage.cgd)
        counts = {"informative_groups": groups, "trained_candidates": float(len(judged))}
        if not judged:
            return params, counts
        rows = pack_judged(judged, ROW_TOKENS, MAX_ROW_STEPS)
        rows["old_logp"] = _log_probs(cfg, params, rows, config.batch_rows)
        params = fit(
            cfg,
            params,
            [(rows, 1.0)],
            rows=config.batch_rows,
            steps=config.rl_steps,
            lr=config.grpo_lr,
            seed=number,
            loss=group_loss,
        )
        return params, counts

    return improve


def group_candidates(
    rollout: Rollout, plans: list[Plan], *, cgd: bool
) -> tuple[list[Judged], float]:
    """The complete candidates of the subquestions that were reached, labelled by advantage.

    An incomplete candidate counts in its group with reward 0 and is not trained on. Groups of equal
    rewards say nothing and are left out; the number is the share of the others.
    """
    reached = rollouts.reached_steps(rollout, plans)
    rewards = jnp.asarray(rollout.reward[reached])
    advantages = np.zeros(rollout.reward.shape)
    advantages[reached] = group_advantages(rewards)
    informative = np.zeros(reached.shape, bool)
    informative[reached] = informative_groups(rewards)
    judged = []
    for p, t in np.argwhere(informative):
        before = rollouts.chosen_solutions(rollout, p, t)
        for j in np.flatnonzero(rollout.complete[p, t]):
            ids = rollout.tokens[p, t, j].tolist()
            solutions = [*before, ids[: ids.index(SEP) + 1]]
            label = float(advantages[p, t, j])
            document = rollouts.judged_document(
                plans[p], solutions, [label], cgd=cgd, judged=slice(t, t + 1)
            )
            if len(document.document.ids) <= ROW_TOKENS:
                judged.append(document)
    return judged, float(informative.sum() / max(1, reached.sum()))


def group_loss(
    params: dict, batch: dict, key: jax.Array, *, cfg: lm.LMConfig
) -> tuple[jax.Array, jax.Array]:
    """(clipped loss times the number of candidates' tokens, that number) of rows of candidates."""
    del key
    mask = batch["step_ids"][:, 1:] >= 0
    advantages = broadcast_steps(batch["step_labels"], batch["step_ids"])[:, 1:]
    logp = _row_log_probs(params, batch, cfg)
    count = jnp.sum(mask).astype(jnp.float32)
    return ppo_loss(logp, batch["old_logp"], advantages, mask).loss * count, count


def _row_log_probs(params, batch, cfg):
    """[B, T - 1] of each token after the first."""
    logits = lm.forward(params, cfg, batch["tokens"], segment_ids=batch["segment_ids"]).logits
    return lm.token_log_probs(logits, batch["tokens"])


_compiled_log_probs = jax.jit(_row_log_probs, static_argnames="cfg")


def _log_probs(cfg, params, rows: dict, size: int) -> np.ndarray:
    """`_row_log_probs` of all rows, `size` at a time."""
    count = len(rows["tokens"])
    parts = []
    for start in range(0, count, size):
        chosen = np.arange(start, start + size) % count
        batch = {name: rows[name][chosen] for name in ("tokens", "segment_ids")}
        parts.append(np.asarray(_compiled_log_probs(params, batch, cfg)))
    return np.concatenate(parts)[:count]
