"""`own`: your models and prompts. Speculative rejection beside Best-of-N, responses as JSONL."""

import functools
import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.align.best_of_n import best_of_n
from jaxlab.align.costs import kv_bytes_per_token, token_capacity
from jaxlab.align.policy import lm_policy
from jaxlab.align.prompts import encode_user_prompt, pad_left, read_prompts, text_template
from jaxlab.align.responses import RewardFn
from jaxlab.align.rewards import perplexity_reward, sequence_reward
from jaxlab.align.schedule import SpecRejConfig
from jaxlab.align.speculative import RoundStats, speculative_rejection
from jaxlab.align.statistics import equivalent_n, improvement_score
from jaxlab.runs import Claim, Run, digest, progress, study_key

_MULTIPLE = 32  # prompts are padded on the left to multiples of it


def measure(config, run: Run) -> list[Claim]:
    """Both methods on every prompt: `artifacts/responses.jsonl`, rewards, tokens, wall time.

    Raises:
      ValueError: no `lm_path` or no `prompts`; responses that the model has no room for.
    """
    if not config.lm_path or not config.prompts:
        raise ValueError("the study own needs --lm_path and --prompts")
    contest = _Contest(config, run)
    results = [
        run.once(
            f"own_{number}_{digest(contest.texts[number])}", functools.partial(contest, number)
        )
        for number in progress(range(len(contest.texts)), "prompts")
    ]
    lines = [
        json.dumps(
            {
                "prompt": text,
                "response": str(result["response"]),
                "score": float(result["score"]),
                "tokens_generated": int(result["tokens_generated"]),
                "rounds": int(result["rounds"]),
            },
            ensure_ascii=False,
        )
        for text, result in zip(contest.texts, results, strict=True)
    ]
    run.write_text("responses.jsonl", "\n".join(lines) + "\n")
    return [_claim(config, contest, results)]


class _Contest:
    """Both methods on the user's models; called with the number of a prompt."""

    def __init__(self, config, run: Run):
        self.config, self.run = config, run
        on_cpu = jax.default_backend() == "cpu"
        self.dtype = jnp.float32 if on_cpu else jnp.bfloat16
        self.cfg, self.params = lm.load_hf(config.lm_path, dtype=self.dtype)
        self.tokenizer = lm.load_tokenizer(config.lm_path)
        self.texts = read_prompts(config.prompts)[: config.own_prompts or None]
        prompts = [encode_user_prompt(self.tokenizer, text) for text in self.texts]
        self.prompts, self.pad_id = pad_left(prompts, _MULTIPLE)
        self.real_lengths = [len(prompt) for prompt in prompts]
        self.judge = None
        if config.reward_path:
            cfg, params = lm.load_hf(config.reward_path, dtype=self.dtype)
            self.judge = cfg, params, lm.load_tokenizer(config.reward_path)
        sampling = lm.SamplingConfig(temperature=config.temperature, top_k=config.top_k)
        self.policy = lm_policy(self.params, self.cfg, sampling=sampling, prompt_pad_id=self.pad_id)
        self.capacity = token_capacity(self.cfg, int(config.cache_gib * 2**30), self.dtype)
        self.warm: set[int] = set()

    def __call__(self, number: int) -> dict:
        config, prompt = self.config, self.prompts[number]
        key = jax.random.fold_in(study_key(config, 11), number)
        reward = self.reward(number)
        settings = SpecRejConfig(
            max_new_tokens=config.own_tokens,
            capacity_tokens=self.capacity,
            alpha=config.alphas[0],
            n_init=config.own_rows or None,
            eos_ids=self.cfg.eos_ids,
        )
        # As many rows at a time as the cache holds to the end.
        batch = max(self.capacity // (prompt.size + config.own_tokens), 1)

        def search():
            return speculative_rejection(
                key, self.policy, reward, prompt, settings, on_round=self.tell(number)
            )

        def plain():
            return best_of_n(
                key,
                self.policy,
                reward,
                prompt,
                n=config.own_best_of,
                max_new_tokens=config.own_tokens,
                batch_size=min(batch, config.own_best_of),
                eos_ids=self.cfg.eos_ids,
            )

        if prompt.size not in self.warm:  # compile
            search(), plain()
            self.warm.add(prompt.size)
        start = time.perf_counter()
        ours = search()
        middle = time.perf_counter()
        theirs = plain()
        end = time.perf_counter()
        return {
            "response": self.tokenizer.decode(ours.tokens[: ours.length], skip_special_tokens=True),
            "score": ours.score,
            "rounds": len(ours.rounds),
            "rows": ours.rounds[0].active,
            "tokens_generated": ours.tokens_generated,
            "tokens_computed": ours.tokens_computed,
            "seconds": middle - start,
            "plain_scores": theirs.all_scores,
            "plain_tokens_computed": theirs.tokens_computed,
            "plain_seconds": end - middle,
        }

    def reward(self, number: int) -> RewardFn:
        """The reward model's on the text, or the generator's own perplexity."""
        if self.judge is None:
            own, real = perplexity_reward(self.params, self.cfg), self.real_lengths[number]
            return lambda prompt, responses, lengths: own(prompt[-real:], responses, lengths)
        cfg, params, tokenizer = self.judge
        template = text_template(
            self.tokenizer, tokenizer, self.texts[number], stop_ids=self.cfg.eos_ids
        )
        return sequence_reward(params, cfg, template=template)

    def tell(self, number: int):
        """Progress round by round: candidates alive and tokens per second."""

        def on_round(stats: RoundStats):
            rate = stats.active * stats.new_tokens / stats.seconds
            self.run.log(
                100 * number + stats.index,
                **{
                    "own/alive": stats.active,
                    "own/best": stats.best,
                    "own/tokens_per_second": rate,
                },
            )
            if sys.stderr.isatty():
                print(
                    f"prompt {number + 1}/{len(self.texts)}, round {stats.index}: {stats.active} "
                    f"alive, {stats.start_length + stats.new_tokens} tokens, best "
                    f"{stats.best:.3f}, {rate:,.0f} tokens/s",
                    file=sys.stderr,
                )

        return on_round


def _claim(config, contest: _Contest, results: list[dict]) -> Claim:
    found = np.array([float(result["score"]) for result in results])
    pool = np.array([result["plain_scores"] for result in results])
    total = {
        name: sum(float(result[name]) for result in results)
        for name in ("seconds", "plain_seconds", "tokens_computed", "plain_tokens_computed")
    }
    wall = total["seconds"] / total["plain_seconds"]
    tokens = total["tokens_computed"] / total["plain_tokens_computed"]
    n = equivalent_n(pool, found.mean())
    base = config.own_best_of
    ranged = np.ptp(pool, axis=1) > 0
    score = improvement_score(pool[ranged], found[ranged]) if ranged.any() else np.nan
    capacity = contest.capacity * kv_bytes_per_token(contest.cfg, contest.dtype) / 2**30
    return Claim(
        "C4-own",
        "16 to 32 times more computationally efficient, on your models and prompts",
        "16 to 32",
        f"improvement score {score:.1f} at {wall:.2f} times the wall time of Best-of-{base}",
        "reported",
        detail=f"{len(results)} prompts of {config.prompts}, {config.lm_path} judged by "
        f"{config.reward_path or 'its own perplexity'}; {int(results[0]['rows'])} initial rows, "
        f"alpha = {config.alphas[0]:g}, {contest.capacity:,} cache slots ({capacity:.2f} GiB); "
        f"{tokens:.2f} times the tokens; mean score {found.mean():.3f} against "
        f"{pool.max(axis=1).mean():.3f}, which Best-of-N reaches at "
        + (f"N = {n:.0f}" if np.isfinite(n) else f"N above {base}")
        + ". Improvement score 100 is Best-of-N's own. The first prompt of a length is run "
        "twice, so that most of the compilation is not counted.",
    )
