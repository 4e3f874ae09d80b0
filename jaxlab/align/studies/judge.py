"""C8: a reward model learned from noisy preferences selects, the gold reward judges."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.align import figures
from jaxlab.align.best_of_n import best_of_n
from jaxlab.align.documents import (
    NUM_TOPICS,
    document_prompt,
    gold_reward,
    sample_documents,
)
from jaxlab.align.rewards import bradley_terry_loss, sequence_reward
from jaxlab.align.speculative import speculative_rejection
from jaxlab.align.studies.models import (
    PROMPT_LEN,
    Model,
    baseline_rows,
    judged,
    language_model,
    on_device,
    search_settings,
)
from jaxlab.runs import Claim, Run, progress, spread, study_key

_SHORTEST = 4  # tokens of a prefix that the reward model learns from


def measure(config, run: Run) -> list[Claim]:
    """How often speculative rejection's choice beats Best-of-(n_init / 8)'s by the gold reward."""
    model = language_model(config, run)
    results = {}
    for kind in ("prefixes", "whole documents"):
        name = kind.split()[0]
        trained = run.once(
            f"reward_model_{name}",
            functools.partial(_train_reward, config, model, prefixes=kind == "prefixes"),
        )
        params = on_device(trained["params"])
        results[kind] = run.once(
            f"judged_{name}", functools.partial(_compare, config, model, params)
        )
    run.figure("judge", figures.judge(results, baseline_rows(config)))
    rates = {kind: _win_rate(result) for kind, result in results.items()}
    rate, error = rates["prefixes"]
    main = results["prefixes"]
    return [
        Claim(
            "C8",
            "Its responses win against Best-of-N's by a judge that did not select them",
            "66% on average against Best-of-120, judged by GPT-4",
            f"{rate:.0%} +- {2 * error:.0%} (2 s.e.) against Best-of-{baseline_rows(config)}",
            judged(config, rate > 0.5 + 2 * error),
            detail="Analogue: a reward model (the language model's trunk and a score head) learned "
            f"from {config.rm_steps * config.rm_pairs} pairs with labels flipped by a logistic of "
            f"twice the gap selects, the gold reward judges, {main['search'].size} pairs of "
            f"independent runs of {config.short_tokens} tokens on {NUM_TOPICS} prompts. "
            "Gold reward "
            + "; ".join(
                f"trained on {kind}: {spread(result['search'])} against "
                f"{spread(result['plain'])}, win rate {rates[kind][0]:.0%}, reward model and gold "
                f"correlate at {float(result['agreement']):.2f}"
                for kind, result in results.items()
            )
            + f". Tokens: {main['search_tokens'].mean():,.0f} against "
            f"{main['plain_tokens'].mean():,.0f}. Criterion (trained on prefixes): above 50% by "
            "two standard errors.",
        )
    ]


def _win_rate(result: dict) -> tuple[float, float]:
    """(share of wins, ties half; its standard error)."""
    wins = (result["search"] > result["plain"]) + 0.5 * (result["search"] == result["plain"])
    return float(wins.mean()), float(wins.std(ddof=1) / np.sqrt(wins.size))


def _score_config(cfg: lm.LMConfig) -> lm.LMConfig:
    return dataclasses.replace(cfg, num_labels=1)


def _train_reward(config, model: Model, *, prefixes: bool) -> dict:
    """A score head on the language model's trunk, by the Bradley-Terry loss on noisy pairs."""
    cfg, length = _score_config(model.cfg), PROMPT_LEN + config.short_tokens

    def batch_at(step):
        rng = np.random.default_rng((config.seed, 6, step))
        topic = int(rng.integers(NUM_TOPICS))
        texts = sample_documents(rng, 2 * config.rm_pairs, length, sigma=config.sigma, topic=topic)
        gold = gold_reward(None, texts[:, PROMPT_LEN:], np.full(len(texts), config.short_tokens))
        gap = gold[: config.rm_pairs] - gold[config.rm_pairs :]
        right = rng.random(config.rm_pairs) < 1 / (1 + np.exp(-2 * gap))
        shown = np.full(config.rm_pairs, length)
        if prefixes:
            shown = PROMPT_LEN + rng.integers(_SHORTEST, config.short_tokens + 1, config.rm_pairs)
        mask = np.arange(length) < shown[:, None]
        first, second = np.split(texts, 2)
        chosen = np.where(right[:, None], first, second)
        rejected = np.where(right[:, None], second, first)
        return {"chosen": chosen, "rejected": rejected, "mask": mask}

    def loss(params, batch, key):
        texts = jnp.concatenate([batch["chosen"], batch["rejected"]])
        mask = jnp.concatenate([batch["mask"], batch["mask"]])
        scores = lm.sequence_scores(params, cfg, texts, attention_mask=mask)[:, 0]
        count = batch["mask"].shape[0]
        return count * bradley_terry_loss(scores[:count], scores[count:]), jnp.float32(count)

    key = study_key(config, 6)
    head = lm.init_params(key, cfg)["score"]
    optimizer = lm.OptimizerConfig(
        peak_lr=1e-3, warmup_steps=min(10, config.rm_steps), total_steps=config.rm_steps,
        weight_decay=0.01,
    )  # fmt: skip
    state = lm.train(
        loss,
        lm.make_optimizer(optimizer),
        model.params | {"score": head},
        batch_at,
        steps=config.rm_steps,
        key=key,
    )
    return {"params": state.params}


def _compare(config, model: Model, reward_params) -> dict:
    """Gold scores of both methods' choices [runs], and their tokens; keys are independent."""
    reward = sequence_reward(reward_params, _score_config(model.cfg))
    settings = search_settings(config, config.alphas[0], config.short_tokens)
    search, plain, search_tokens, plain_tokens, agreement = [], [], [], [], []
    places = [(i, j) for i in range(NUM_TOPICS) for j in range(config.judge_keys)]
    for topic, number in progress(places, "judged"):
        prompt = document_prompt(topic)
        key = jax.random.fold_in(study_key(config, 7), NUM_TOPICS * number + topic)
        keys = jax.random.split(key)
        ours = speculative_rejection(keys[0], model.policy, reward, prompt, settings)
        theirs = best_of_n(
            keys[1],
            model.policy,
            reward,
            prompt,
            n=baseline_rows(config),
            max_new_tokens=config.short_tokens,
        )
        gold = gold_reward(prompt, theirs.all_tokens, theirs.all_lengths)
        search.append(gold_reward(prompt, ours.tokens[None], np.array([ours.length]))[0])
        plain.append(gold[theirs.row])
        search_tokens.append(ours.tokens_computed)
        plain_tokens.append(theirs.tokens_computed)
        agreement.append(np.corrcoef(gold, theirs.all_scores)[0, 1])
    return {
        "search": np.array(search),
        "plain": np.array(plain),
        "search_tokens": np.array(search_tokens),
        "plain_tokens": np.array(plain_tokens),
        "agreement": np.mean(agreement),
    }
