"""The trained models that most studies look at, each resumable to the last bit."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.runs import (
    Run,
    check_finite,
    latest_step,
    restore_checkpoint,
    save_checkpoint,
    study_key,
)
from jaxlab.twohop.dissection import dissect
from jaxlab.twohop.model import ModelConfig, Params
from jaxlab.twohop.seeds import seeds_progress_like, train_seeds
from jaxlab.twohop.task import TaskConfig, sample_batch
from jaxlab.twohop.training import TrainConfig, TrainResult, progress_like, train
from jaxlab.twohop.transition import PhaseReport, phase_transition


class Recipe(NamedTuple):
    """One way to train, and how many seeds of it."""

    name: str
    model: ModelConfig
    train: TrainConfig
    seeds: int


class Outcome(NamedTuple):
    """One trained model.

    Attributes:
      recipe: how it was trained.
      seed: which of the recipe's.
      result: what training left.
      report: the transition of the answer's probability.
    """

    recipe: Recipe
    seed: int
    result: TrainResult
    report: PhaseReport

    @property
    def name(self) -> str:
        """Of checkpoints, phases and curves."""
        return f"{self.recipe.name}_seed{self.seed}"

    @property
    def plateau_params(self) -> Params:
        """The checkpoint nearest to 0.6 of the time to the onset."""
        kept = self.result.checkpoints
        return kept[min(kept, key=lambda step: abs(step - 0.6 * self.report.onset))]


def main_task(config) -> TaskConfig:
    """The task of the main runs."""
    return TaskConfig(config.n_chains, config.n_onehop, config.vocab_size)


def main_recipes(config) -> list[Recipe]:
    """The recipe of the flags, AdamW at the second width, and one with MLPs."""
    task = main_task(config)
    model = ModelConfig(
        task.n_tokens,
        task.seq_len,
        config.dim,
        config.n_layers,
        mlp_ratio=config.mlp_ratio,
    )
    schedule = {"eval_every": config.eval_every, "keep_every": config.keep_every}
    main = TrainConfig(
        config.optimizer,
        config.lr,
        batch_size=config.batch_size,
        steps=config.steps,
        stop_after=config.stop_after,
        **schedule,
    )
    adamw = TrainConfig(
        "adamw",
        config.adamw_lr,
        batch_size=config.adamw_batch_size,
        steps=config.adamw_steps,
        **schedule,
    )
    recipes = [
        Recipe(f"{config.optimizer}_dim{config.dim}", model, main, config.num_seeds),
        Recipe(
            f"second_adamw_dim{config.adamw_dim}",
            dataclasses.replace(model, dim=config.adamw_dim),
            adamw,
            config.adamw_seeds,
        ),
        Recipe(
            f"mlp_{config.optimizer}_dim{config.dim}",
            dataclasses.replace(model, mlp_ratio=4),
            main,
            config.mlp_seeds,
        ),
    ]
    return [recipe for recipe in recipes if recipe.seeds]


def train_main(config, run: Run) -> list[Outcome]:
    """Trains every seed of every recipe, or reads what an earlier call left."""
    task = main_task(config)
    outcomes = []
    for number, recipe in enumerate(main_recipes(config)):
        keys = jax.random.split(study_key(config, number), recipe.seeds)
        results = train_resumably(config, run, recipe.name, keys, task, recipe.model, recipe.train)
        for seed, result in enumerate(results):
            report = phase_transition(result.history["step"], result.history["target_end"])
            outcomes.append(Outcome(recipe, seed, result, report))
    return outcomes


def train_resumably(
    config,
    run: Run,
    name: str,
    keys: jax.Array,
    task: TaskConfig,
    model: ModelConfig,
    recipe: TrainConfig,
) -> list[TrainResult]:
    """`train` for each key, one after another or at once, continued where a kill left it."""
    if config.seeds_at_once:
        fit = functools.partial(train_seeds, keys, task, model, recipe)
        like = functools.partial(seeds_progress_like, keys, task, model, recipe)
        return _resume(config, run, name, fit, like)
    results = []
    for seed, key in enumerate(keys):
        fit = functools.partial(train, key, task, model, recipe)
        like = functools.partial(progress_like, task, model, recipe)
        results.append(_resume(config, run, f"{name}_seed{seed}", fit, like))
    return results


def _resume(config, run: Run, name: str, fit, like):
    folder = run.checkpoint_dir(name)
    done = latest_step(folder)
    progress = restore_checkpoint(folder, like(done), step=done) if done else None
    last: Any = progress

    def on_eval(progress) -> None:
        nonlocal last
        last = progress
        history = progress.history
        step = int(np.max(history["step"][-1]))
        last_row = {name: np.mean(values[-1]) for name, values in history.items()}
        check_finite(step, {"loss": last_row["loss"]}, folder)
        logged = ("loss", "eval_loss", "accuracy", "target_end", "other_end", "child_to_parent")
        # With one chain there is no other end.
        run.log(step, **{f"{name}/{x}": last_row[x] for x in logged if np.isfinite(last_row[x])})
        if step % config.checkpoint_every == 0:
            save_checkpoint(folder, progress, step=step, keep=1)

    result = fit(progress=progress, on_eval=on_eval)
    step = int(np.max(last.history["step"][-1]))
    if step != latest_step(folder):
        # Nothing takes the last state over, and with it a restart finds the training done.
        save_checkpoint(folder, last, step=step, keep=1)
    return result


def dissected(config, run: Run, outcome: Outcome) -> dict[str, dict]:
    """The model on its plateau and at its end, taken apart on fresh problems, as nested dicts."""

    def compute():
        batch = sample_batch(study_key(config, 90), main_task(config), config.analysis_size)
        stages = {"plateau": outcome.plateau_params, "end": outcome.result.params}
        return {
            stage: _plain(dissect(params, batch, outcome.recipe.model))
            for stage, params in stages.items()
        }

    return run.once(f"dissection_{outcome.name}", compute)


def _plain(part):
    """Named tuples as dicts."""
    if hasattr(part, "_asdict"):
        part = part._asdict()
    return {name: _plain(x) for name, x in part.items()} if isinstance(part, dict) else part
