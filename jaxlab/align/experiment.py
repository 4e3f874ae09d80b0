"""Claims of the paper on speculative rejection, measured: `run(config, run)`."""

import dataclasses

from jaxlab.align.studies import (
    correlation,
    efficiency,
    judge,
    perplexity,
    resources,
    sweep,
    tuning,
)
from jaxlab.runs import Claim, Run, check_choices, option

STUDIES = {
    "tuning": tuning.measure,
    "resources": resources.measure,
    "efficiency": efficiency.measure,
    "correlation": correlation.measure,
    "sweep": sweep.measure,
    "judge": judge.measure,
    "perplexity": perplexity.measure,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiments."""

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
    rm_steps: int = option(120, "optimizer steps of a reward model")
    rm_pairs: int = option(32, "pairs per step")
    judge_keys: int = option(3, "judged runs per prompt")
    additive_rows: int = option(4000, "rows of the study with additive rewards")
    additive_keys: int = option(20, "its runs")


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
    ),
}


def run(config: Config, run: Run) -> list[Claim]:
    """Runs the chosen study, or all, and writes the claims.

    Raises:
      ValueError: an unknown study, or sizes that make no sense.
    """
    check_choices(config)
    chosen = list(STUDIES) if config.experiment == "all" else [config.experiment]
    claims = [claim for name in chosen for claim in STUDIES[name](config, run)]
    claims.sort(key=_row)
    return run.write_claims(claims)


def _row(claim: Claim) -> tuple[int, str]:
    """C10 after C9, C4-text after C4."""
    number, _, variant = claim.id.removeprefix("C").partition("-")
    return int(number), variant
