"""Claims of the two-hop reasoning paper, measured: `run(config, run)`."""

import dataclasses
import functools

from jaxlab.runs import Claim, Run, check_choices, check_least, claim_order, option
from jaxlab.twohop.studies import (
    distractors,
    language_models,
    mechanisms,
    three_parameters,
    transition,
)
from jaxlab.twohop.studies.main_runs import main_recipes, train_main
from jaxlab.twohop.training import OPTIMIZERS

STUDIES = {
    "transition": transition.measure,
    "mechanisms": mechanisms.measure,
    "distractors": distractors.measure,
    "three_param": three_parameters.measure,
    "language": language_models.measure,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiments."""

    experiment: str = option("all", "which study", choices=("all", *STUDIES))
    seed: int = option(0, "seed of everything that is drawn")
    n_chains: int = option(5, "two-hop chains K in a problem")
    n_onehop: int = option(0, "single hops M beside them")
    vocab_size: int = option(30, "entities to draw from")
    n_layers: int = option(3, "layers; the claims on mechanisms are about three")
    mlp_ratio: int = option(0, "hidden width of the MLPs over dim; 0 for attention alone")
    dim: int = option(64, "width of the main recipe")
    optimizer: str = option("muon", "its optimizer", choices=OPTIMIZERS)
    lr: float = option(1e-2, "its learning rate, constant; twice too high never makes the jump")
    batch_size: int = option(128, "its fresh problems a step")
    steps: int = option(1600, "its steps at most")
    stop_after: int = option(
        0, "its steps after 99% accuracy; under Muon's constant rate the loss creeps up again"
    )
    num_seeds: int = option(5, "its seeds")
    adamw_seeds: int = option(2, "seeds of a second recipe, AdamW")
    adamw_dim: int = option(128, "its width")
    adamw_lr: float = option(5e-4, "its learning rate")
    adamw_batch_size: int = option(256, "its fresh problems a step")
    adamw_steps: int = option(3000, "its steps at most")
    mlp_seeds: int = option(0, "seeds of the main recipe with MLPs of ratio 4")
    shallow_seeds: int = option(1, "seeds of the control with two layers")
    length_seeds: int = option(2, "seeds of the runs on two chains and single hops")
    single_chain_steps: int = option(300, "steps of the runs on one chain")
    eval_every: int = option(50, "steps between evaluations")
    keep_every: int = option(100, "steps between kept parameters, a multiple of eval_every")
    checkpoint_every: int = option(200, "steps between checkpoints to resume from")
    analysis_size: int = option(512, "problems that a trained model is taken apart on")
    seeds_at_once: bool = option(
        False, "train a recipe's seeds together, spread over devices; for accelerators"
    )
    model_dir: str | None = option(None, "Hugging Face folder of a language model to probe")
    prompts_json: str | None = option(None, "prompt file in the official format; own ones if none")
    lm_chains: tuple[int, ...] = option((1, 2, 3, 4, 5), "numbers of chains of own prompts")
    lm_prompts: int = option(200, "own prompts for each number of chains")
    lm_batch_size: int = option(16, "prompts a forward pass and a step")
    lm_attention_prompts: int = option(32, "prompts whose attention is read")
    finetune_steps: int = option(186, "steps on prompts of two chains; 0 leaves the model as it is")
    finetune_prompts: int = option(1000, "own prompts for them, apart from the test's")
    finetune_lr: float = option(2e-4, "peak learning rate, cosine")
    lora_rank: int = option(16, "rank of the adapter")
    lora_alpha: float = option(32.0, "its scale times the rank")


PRESETS = {
    "smoke": Config(num_seeds=2, adamw_seeds=0, shallow_seeds=0, length_seeds=0),
    "small": Config(),
    "paper": Config(
        dim=256,
        optimizer="adamw",
        lr=3e-4,
        batch_size=512,
        steps=10_000,
        stop_after=100,
        num_seeds=3,
        mlp_seeds=1,
        length_seeds=3,
        shallow_seeds=2,
        seeds_at_once=True,
        lm_prompts=1000,
    ),
}


def run(config: Config, run: Run) -> list[Claim]:
    """Runs the chosen study, or all, and writes the claims.

    Raises:
      ValueError: an unknown study, or sizes that make no sense.
    """
    check_choices(config)
    counts = ("num_seeds", "single_chain_steps", "eval_every", "keep_every", "checkpoint_every")
    check_least(config, dict.fromkeys(counts, 1))
    for name in ("keep_every", "checkpoint_every"):
        if getattr(config, name) % config.eval_every:
            raise ValueError(
                f"{name} {getattr(config, name)} is not a multiple of eval_every "
                f"{config.eval_every}"
            )
    shortest = min(recipe.train.steps for recipe in main_recipes(config))
    if config.keep_every > shortest:
        raise ValueError(
            f"keep_every {config.keep_every} keeps no parameters of a run of {shortest} steps; "
            "lower it"
        )
    trained = functools.cache(lambda: train_main(config, run))
    chosen = list(STUDIES) if config.experiment == "all" else [config.experiment]
    claims = [claim for name in chosen for claim in STUDIES[name](config, run, trained)]
    return run.write_claims(sorted(claims, key=claim_order))
