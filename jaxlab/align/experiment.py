"""Claims of the paper on speculative rejection, measured: `run(config, run)`."""

import dataclasses

from jaxlab.align.documents import NUM_TOPICS
from jaxlab.align.studies import (
    correlation,
    efficiency,
    judge,
    own,
    perplexity,
    real_text,
    resources,
    sweep,
    tuning,
)
from jaxlab.runs import Claim, Run, check_choices, check_least, claim_order, option

STUDIES = {
    "tuning": tuning.measure,
    "resources": resources.measure,
    "efficiency": efficiency.measure,
    "correlation": correlation.measure,
    "sweep": sweep.measure,
    "judge": judge.measure,
    "perplexity": perplexity.measure,
    "text": real_text.measure,
    "own": own.measure,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiments, and the user's own models and prompts."""

    experiment: str = option("all", "which study", choices=("all", *STUDIES))
    seed: int = option(0, "seed of documents, models and samples")
    sigma: float = option(1.0, "scatter of a document's adjectives around its quality")
    lm_steps: int = option(250, "optimizer steps of the language model")
    lm_rows: int = option(16, "documents per step")
    lm_length: int = option(130, "tokens of a document")
    n_init: int = option(256, "rows that speculative rejection starts with, N of Best-of-N")
    max_new_tokens: int = option(510, "tokens of a response")
    first_segment: int = option(3, "tokens before the first rejection, which fill the memory")
    alphas: tuple[float, ...] = option((0.5, 0.75), "rejected fractions; the first one is judged")
    sweep: tuple[float, ...] = option(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9), "rejected fractions of the sweep"
    )
    num_prompts: int = option(4, "prompts, at most 8")
    num_keys: int = option(4, "paired runs per prompt")
    short_tokens: int = option(126, "tokens of a response in the studies tuning, judge, perplexity")
    rm_steps: int = option(100, "optimizer steps of a reward model")
    rm_pairs: int = option(24, "pairs per step")
    judge_keys: int = option(3, "judged runs per prompt")
    additive_rows: int = option(4000, "rows of the study with additive rewards")
    additive_keys: int = option(20, "its runs")
    text: str = option("", "text file or folder to train on; empty: the Python language reference")
    text_steps: int = option(250, "optimizer steps of the model of text; 0: leave it out")
    text_prompts: int = option(6, "prompts from the text")
    text_tokens: int = option(512, "tokens of such a prompt and its response")
    lm_path: str = option("", "Hugging Face folder of a language model, for the study own")
    reward_path: str = option("", "folder of a sequence classifier; empty: minus the perplexity")
    prompts: str = option("", 'JSON list of {"prompt": ...}')
    own_prompts: int = option(0, "how many of them, from the first; 0: all")
    own_tokens: int = option(256, "tokens of a response")
    own_best_of: int = option(32, "N of the Best-of-N beside it")
    own_rows: int = option(0, "initial rows; 0: as many as the cache holds after 8 tokens")
    cache_gib: float = option(0.5, "GiB for keys and values; as much again is free for the gather")
    temperature: float = option(1.0, "of the own model's samples")
    top_k: int = option(50, "their top k; 0: off")


PRESETS = {
    "smoke": Config(
        lm_steps=30,
        n_init=64,
        max_new_tokens=62,
        first_segment=6,
        sweep=(0.1, 0.25, 0.5, 0.75, 0.9),
        num_prompts=1,
        num_keys=2,
        short_tokens=62,
        rm_steps=10,
        rm_pairs=16,
        judge_keys=1,
        additive_rows=1000,
        additive_keys=5,
        text_steps=0,
    ),
    "small": Config(),
    "paper": Config(
        lm_steps=2000,
        n_init=1024,
        max_new_tokens=1022,
        alphas=(0.5, 0.75, 0.9),
        num_prompts=8,
        num_keys=8,
        rm_steps=500,
        judge_keys=12,
        text_steps=4000,
        text_prompts=32,
        own_tokens=2048,
        own_best_of=120,
        cache_gib=32.0,
    ),
}


def run(config: Config, run: Run) -> list[Claim]:
    """Runs the chosen study, or all, and writes the claims; `own` is among all if it has files.

    Raises:
      ValueError: an unknown study, sizes that make no sense, or a file of another form.
      FileNotFoundError: no such file.
    """
    check_choices(config)
    _check_sizes(config)
    chosen = [config.experiment]
    if config.experiment == "all":
        chosen = [name for name in STUDIES if name != "own" or config.lm_path]
    claims = [claim for name in chosen for claim in STUDIES[name](config, run)]
    return run.write_claims(sorted(claims, key=claim_order))


_LEAST = {
    "lm_steps": 1,
    "lm_rows": 1,
    "lm_length": 4,
    "n_init": 16,
    "max_new_tokens": 16,
    "first_segment": 1,
    "num_prompts": 1,
    "num_keys": 1,
    "short_tokens": 8,
    "rm_steps": 1,
    "rm_pairs": 1,
    "judge_keys": 1,
    "additive_rows": 2,
    "additive_keys": 1,
    "text_steps": 0,
    "text_prompts": 1,
    "text_tokens": 24,
    "own_prompts": 0,
    "own_tokens": 1,
    "own_best_of": 2,
    "own_rows": 0,
}


def _check_sizes(config: Config):
    check_least(config, _LEAST)
    if config.num_prompts > NUM_TOPICS:
        raise ValueError(f"num_prompts must be at most {NUM_TOPICS}, got {config.num_prompts}")
    if config.short_tokens > config.max_new_tokens:
        raise ValueError(
            f"short_tokens {config.short_tokens} exceeds max_new_tokens {config.max_new_tokens}"
        )
    for name in ("alphas", "sweep"):
        values = getattr(config, name)
        if not values or not all(0 < alpha < 1 for alpha in values):
            raise ValueError(f"{name} must hold numbers in (0, 1), got {values}")
