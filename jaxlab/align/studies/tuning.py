"""C1: Best-of-N against training on the model's own best responses, at equal divergence."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.align import figures
from jaxlab.align.documents import document_prompt, gold_reward
from jaxlab.align.policy import lm_policy, row_keys
from jaxlab.align.rewards import bradley_terry_loss
from jaxlab.align.statistics import bon_kl_bound, expected_max
from jaxlab.align.studies.models import PROMPT_LEN, Model, judged, language_model
from jaxlab.align.studies.pairs import Pairs, draw_pairs
from jaxlab.runs import Claim, Run, study_key

_GROUP = 16  # responses of which the best (and the worst) is learned
_BATCH = 8  # groups per optimizer step
_RATE = 1e-4  # small, so that the pass goes through the divergences of Best-of-N
_BETA = 0.1  # DPO's weight of the divergence
_LEAST_GAIN = 0.1  # of Best-of-N's, below which a tuned model is no rival
_EVALUATIONS = 6


def measure(config, run: Run) -> list[Claim]:
    """Gold reward by KL divergence of Best-of-N, expert iteration and DPO."""
    model = language_model(config, run)
    pairs = draw_pairs(config, run)
    data = _groups(config, pairs)
    losses = {
        "expert iteration": functools.partial(_expert_loss, model.cfg),
        "DPO": functools.partial(_dpo_loss, model.cfg, model.params),
    }
    tuned = {
        name: run.once(
            f"tuned_{name.replace(' ', '_')}",
            functools.partial(_tune, config, model, loss, data),
        )
        for name, loss in losses.items()
    }
    pool = _short_scores(config, pairs).reshape(config.num_prompts, -1)
    sizes = np.array([2**i for i in range(pool.shape[1].bit_length() - 1)])
    curve = {
        "kl": np.array([bon_kl_bound(n) for n in sizes]),
        "reward": np.array([expected_max(pool, n).mean() for n in sizes]),
    }
    run.figure("tuning", figures.tuning(curve, tuned))
    return [_claim(config, pool, tuned, len(data["best"]))]


def _claim(config, pool: np.ndarray, tuned: dict[str, dict], groups: int) -> Claim:
    n = min(64, pool.shape[1] // 2)
    bound, reached = bon_kl_bound(n), expected_max(pool, n).mean()
    within = {}
    for name, path in tuned.items():
        inside = np.flatnonzero(path["kl"] <= bound)
        best = inside[np.argmax(path["reward"][inside])]
        within[name] = path["reward"][best], path["kl"][best]
    gained = min(path["reward"].max() for path in tuned.values()) - pool.mean()
    rivals = gained >= _LEAST_GAIN * (reached - pool.mean())
    ends = {name: (path["reward"][-1], path["kl"][-1]) for name, path in tuned.items()}

    def tell(points):
        return ", ".join(f"{name} {reward:.2f} at KL {kl:.2f}" for name, (reward, kl) in points)

    return Claim(
        "C1",
        "Best-of-N is as effective as the state-of-the-art post-training procedures",
        "cited, not tested",
        f"gold reward: Best-of-{n} {reached:.2f} at KL <= {bound:.2f}, {tell(within.items())}",
        judged(config, all(reached >= reward for reward, _ in within.values()))
        if rivals
        else "reported",
        detail=f"Analogue: the model of documents, {config.short_tokens} tokens, one pass over the "
        f"best (expert iteration) or best and worst (DPO, beta {_BETA}) of {groups} groups of "
        f"{_GROUP} own responses; base model {pool.mean():.2f}. A tuned model counts at its best "
        "point with KL, estimated from its samples, within Best-of-N's bound; at the end of the "
        f"pass {tell(ends.items())}. One pass at one setting: neither was tuned further. "
        "Criterion: Best-of-N's gold reward is at least theirs.",
    )


def _short_scores(config, pairs: Pairs) -> np.ndarray:
    """Gold scores [p, k, n] of the first `short_tokens` of every response."""
    size, total = config.short_tokens, pairs.tokens.shape[-1]
    tokens = pairs.tokens.reshape(-1, total)[:, :size]
    lengths = np.minimum(pairs.lengths.ravel(), size)
    return gold_reward(document_prompt(0), tokens, lengths).reshape(pairs.scores.shape)


def _groups(config, pairs: Pairs) -> dict[str, np.ndarray]:
    """The best and the worst response of every group, prompts in front, [groups, S], shuffled."""
    scores = _short_scores(config, pairs)
    count = scores.shape[-1] // _GROUP * _GROUP
    scores = scores[..., :count].reshape(-1, _GROUP)
    short = pairs.tokens[..., :count, : config.short_tokens].astype(np.int32)
    prompts = np.stack([document_prompt(i) for i in range(config.num_prompts)])
    front = np.broadcast_to(prompts[:, None, None], (*short.shape[:3], PROMPT_LEN))
    texts = np.concatenate([front, short], axis=-1).reshape(*scores.shape, -1)
    order = np.random.default_rng((config.seed, 4)).permutation(len(scores))
    rows = np.arange(len(scores))
    return {
        "best": texts[rows, scores.argmax(axis=1)][order],
        "worst": texts[rows, scores.argmin(axis=1)][order],
    }


def _expert_loss(cfg, params, batch, key):
    """Cross-entropy of the best responses (expert iteration, Anthony et al. 2017)."""
    return lm.next_token_loss(params, cfg, {"tokens": batch["best"], "loss_mask": _answers(batch)})


def _dpo_loss(cfg, reference, params, batch, key):
    """Rafailov et al. 2023, equation 7, on the best and the worst responses."""

    def log_ratio(tokens):
        mask = _answers(batch)
        ours, _ = lm.sequence_log_probs(params, cfg, tokens, loss_mask=mask)
        theirs, _ = lm.sequence_log_probs(reference, cfg, tokens, loss_mask=mask)
        return _BETA * (ours - theirs)

    count = batch["best"].shape[0]
    loss = bradley_terry_loss(log_ratio(batch["best"]), log_ratio(batch["worst"]))
    return count * loss, jnp.float32(count)


def _answers(batch) -> jax.Array:
    return jnp.broadcast_to(jnp.arange(batch["best"].shape[1]) >= PROMPT_LEN, batch["best"].shape)


def _tune(config, model: Model, loss: Callable, data: dict[str, np.ndarray]) -> dict:
    """One pass; gold reward and KL to the base model (nats) before it and along it."""
    batch_size = min(_BATCH, len(data["best"]))
    steps = len(data["best"]) // batch_size
    path = [_evaluate(config, model, model.params)]
    lm.train(
        loss,
        lm.make_optimizer(lm.OptimizerConfig(peak_lr=_RATE, schedule="constant", weight_decay=0.0)),
        model.params,
        lambda step: {
            name: rows[step * batch_size : (step + 1) * batch_size] for name, rows in data.items()
        },
        steps=steps,
        key=study_key(config, 4),
        on_eval=lambda state, _: path.append(_evaluate(config, model, state.params)),
        eval_every=max(steps // _EVALUATIONS, 1),
    )
    reward, kl = np.transpose(path)
    return {"reward": reward, "kl": kl}


def _evaluate(config, model: Model, params: Any) -> tuple[float, float]:
    """(mean gold reward, mean log-ratio to the base model) of fresh samples."""
    rows, size = config.n_init // 4, config.short_tokens
    rewards, ratios = [], []
    policy = lm_policy(params, model.cfg)
    for topic in range(config.num_prompts):
        prompt = document_prompt(topic)
        keys = row_keys(study_key(config, 20 + topic), rows)
        state = policy.start(keys, prompt, PROMPT_LEN + size)
        _, tokens, log_probs = policy.extend(state, size)
        rewards.append(gold_reward(prompt, tokens, np.full(rows, size)).mean())
        text = np.hstack([np.tile(prompt, (rows, 1)), tokens])
        base = _log_probs(model.params, text, cfg=model.cfg)
        ratios.append(np.mean(np.sum(log_probs, axis=1) - base))
    return float(np.mean(rewards)), float(np.mean(ratios))


@functools.partial(jax.jit, static_argnames="cfg")
def _log_probs(params, text, *, cfg):
    is_answer = jnp.broadcast_to(jnp.arange(text.shape[1]) >= PROMPT_LEN, text.shape)
    return lm.sequence_log_probs(params, cfg, text, loss_mask=is_answer)[0]
