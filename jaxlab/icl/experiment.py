"""Claims of the linear transformer block paper, measured: `run(config, run)`."""

import dataclasses

from jaxlab.icl.studies import (
    attention_gap,
    bayes,
    construction,
    flow,
    formulas,
    real_tasks,
    trained_blocks,
    transformers,
)
from jaxlab.runs import Claim, Run, check_choices, check_least, option

STUDIES = {
    "bayes": bayes.measure,
    "gap": attention_gap.measure,
    "training": trained_blocks.measure,
    "construction": construction.measure,
    "flow": flow.measure,
    "formulas": formulas.measure,
    "transformer": transformers.measure,
    "tasks": real_tasks.measure,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiments; sizes of the main setting are d, M, mean, noise."""

    experiment: str = option("all", "which study", choices=("all", *STUDIES))
    seed: int = option(0, "seed of everything that is drawn")
    dim: int = option(5, "dimension d of the inputs")
    num_context: int = option(10, "labelled examples M in a prompt")
    mean: float = option(2.0, "every entry of the prior mean beta*")
    noise_var: float = option(0.25, "variance of the label noise")
    bayes_dim: int = option(20, "dimension of the comparison with Bayes")
    bayes_contexts: tuple[int, ...] = option((5, 10, 20, 40, 80, 160, 320), "M there")
    bayes_samples: int = option(4000, "draws of the inputs for the Bayes risk")
    gap_norms: tuple[float, ...] = option((0.0, 1.0, 20**0.5, 10.0), "norms of the prior mean")
    gap_contexts: tuple[int, ...] = option((5, 10, 20, 40, 80, 160), "M of the gap's decay")
    random_blocks: int = option(2000, "random attention layers held against the lower bound")
    num_seeds: int = option(5, "trained blocks of each kind")
    population_steps: int = option(20_000, "Adam steps on the exact risk")
    population_lr: float = option(5e-3, "peak learning rate there, cosine")
    sampled_steps: int = option(20_000, "Adam steps on fresh prompts")
    sampled_lr: float = option(3e-3, "peak learning rate there, cosine")
    batch_size: int = option(256, "prompts a step")
    test_prompts: int = option(2_000_000, "fresh prompts of each Monte Carlo estimate")
    flow_starts: int = option(8, "random starts of the gradient flow, beside zero")
    flow_steps: int = option(20_000, "Runge-Kutta steps")
    flow_conditions: tuple[float, ...] = option((1.0, 3.0, 10.0), "condition numbers of H")
    transformer_width: int = option(64, "residual stream of the softmax transformer")
    transformer_depth: int = option(2, "its blocks")
    transformer_heads: int = option(2, "its heads")
    transformer_steps: int = option(4000, "its Adam steps")
    transformer_lr: float = option(1e-3, "its peak learning rate, cosine")
    transformer_batch: int = option(64, "its prompts a step")
    transformer_seeds: int = option(3, "its seeds")
    transformer_judged: bool = option(True, "hold it to its criterion (needs steps, and 3 seeds)")
    task_steps: int = option(4000, "Adam steps on prompts from real tasks")
    data: str | None = option(None, "an .npz of tasks, X [tasks, N, d] and y [tasks, N]")


PRESETS = {
    "smoke": Config(
        dim=3,
        num_context=6,
        bayes_contexts=(5, 20, 80, 320),
        bayes_samples=500,
        gap_contexts=(5, 10, 40),
        random_blocks=500,
        num_seeds=3,
        population_steps=3000,
        population_lr=1e-2,
        sampled_steps=4000,
        sampled_lr=1e-2,
        test_prompts=200_000,
        flow_starts=5,
        flow_steps=12_000,
        flow_conditions=(1.0, 10.0),
        transformer_width=32,
        transformer_depth=1,
        transformer_steps=300,
        transformer_seeds=2,
        transformer_judged=False,
        task_steps=200,
    ),
    "small": Config(),
    "paper": Config(
        num_seeds=10,
        bayes_samples=20_000,
        random_blocks=20_000,
        transformer_width=256,
        transformer_depth=12,
        transformer_heads=8,
        transformer_steps=500_000,
        transformer_lr=1e-4,
    ),
}


def run(config: Config, run: Run) -> list[Claim]:
    """Runs the chosen study, or all, and writes the claims.

    Raises:
      ValueError: an unknown study, or sizes that make no sense.
    """
    check_choices(config)
    counts = ("dim", "num_context", "num_seeds", "transformer_seeds")
    check_least(config, dict.fromkeys(counts, 1))
    chosen = list(STUDIES) if config.experiment == "all" else [config.experiment]
    claims = [claim for name in chosen for claim in STUDIES[name](config, run)]
    return run.write_claims(claims)
