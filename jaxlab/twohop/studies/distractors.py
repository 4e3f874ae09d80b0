"""C1, C9 and C12 on the small model: untrained distractors, too few layers, more chains."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.runs import Claim, Run, holds, not_run, study_key
from jaxlab.twohop import figures
from jaxlab.twohop.model import ModelConfig, query_logits
from jaxlab.twohop.observables import role_probs
from jaxlab.twohop.studies.main_runs import main_task, train_resumably
from jaxlab.twohop.task import TaskConfig, sample_batch
from jaxlab.twohop.training import TrainConfig

_MUON = TrainConfig("muon", 1e-2, batch_size=128)
_DIM = 64
CHAINS = (1, 2, 3, 4, 5)
_PREMISES = 10  # what five chains take; fewer chains are filled up with single hops


class ByChains(NamedTuple):
    """Scores over seeds and numbers of chains, `[seeds, 5]`.

    Attributes:
      accuracy: share of right answers.
      target, other: mean probability of the right end and of another.
      ends: share of answers that are the end of some chain.
    """

    accuracy: np.ndarray
    target: np.ndarray
    other: np.ndarray
    ends: np.ndarray


def measure(config, run: Run, trained) -> list[Claim]:
    """Trains on other tasks than it tests on, or with one layer less."""
    single = ByChains(**run.once("one_chain_scores", lambda: _single_chain(config, run)))
    curves = {"trained on one chain": single}
    claims = [_collapse(config, single), _too_shallow(config, run, trained)]
    if config.length_seeds:
        longer = ByChains(**run.once("two_chains_scores", lambda: _two_chains(config, run)))
        curves["trained on two chains and fillers"] = longer
        claims.append(_length(longer))
    else:
        claims.append(not_run("C12", _LENGTH, "This preset does not train it (--length_seeds)."))
    run.figure("accuracy_by_chains", figures.accuracy_by_chains(CHAINS, curves))
    return claims


_LENGTH = "Training with one distractor is enough to generalise from two chains to five"


def _single_chain(config, run: Run) -> dict:
    """The model that has only ever seen one chain, asked about several."""
    task = TaskConfig(1, 0, config.vocab_size)
    model = ModelConfig(task.n_tokens, 4 * CHAINS[-1] + 2, _DIM, pos="rope")
    recipe = dataclasses.replace(
        _MUON, steps=config.single_chain_steps, eval_every=config.eval_every, stop_accuracy=None
    )
    keys = jax.random.split(study_key(config, 20), config.num_seeds)
    results = train_resumably(config, run, "one_chain", keys, task, model, recipe)
    tasks = [TaskConfig(count, 0, config.vocab_size) for count in CHAINS]
    return _scores(config, [result.params for result in results], model, tasks)


def _two_chains(config, run: Run) -> dict:
    """The model that was trained on two chains among single hops, asked about one to five."""
    tasks = [TaskConfig(count, _PREMISES - 2 * count, config.vocab_size) for count in CHAINS]
    task = tasks[1]
    model = ModelConfig(task.n_tokens, task.seq_len, _DIM)
    recipe = dataclasses.replace(
        _MUON, steps=config.steps, eval_every=config.eval_every, stop_after=config.stop_after
    )
    keys = jax.random.split(study_key(config, 21), config.length_seeds)
    results = train_resumably(config, run, "two_chains", keys, task, model, recipe)
    return _scores(config, [result.params for result in results], model, tasks)


def _scores(config, params: list, model: ModelConfig, tasks: list[TaskConfig]) -> dict:
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *params)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def score(params, batch):
        logits = query_logits(params, batch.tokens, model)
        answer, probs = logits.argmax(-1), role_probs(logits, batch)
        is_end = (answer[:, None] == batch.chains[..., 2]).any(1)
        right = (answer == batch.answer).mean()
        return right, probs.target_end, probs.other_end, is_end.mean()

    keys = jax.random.split(study_key(config, 30), len(tasks))
    columns = [
        jax.device_get(score(stacked, sample_batch(key, task, config.analysis_size)))
        for key, task in zip(keys, tasks, strict=True)
    ]
    return ByChains(*np.moveaxis(np.array(columns), 0, -1))._asdict()


def _collapse(config, scores: ByChains) -> Claim:
    chains = np.array(CHAINS)
    gap = abs(scores.target - scores.other)[:, 1:]
    falls = (scores.accuracy[:, 1:] < 1 / chains[1:] + 0.12).all() and (gap < 0.1).all()
    return Claim(
        "C1",
        "Distracting chains make a model that answers one chain guess at random",
        "p(target) 0.82, 0.41, 0.31, 0.25, 0.20 for K = 1 to 5 (Llama-2-7B)",
        f"accuracy {_series(scores.accuracy)} for K = 1 to 5; answers that are an end "
        f"{_series(scores.ends)}; largest |p(target) - p(other end)| {gap.max():.2f}",
        holds((scores.accuracy[:, 0] > 0.95).all() and falls),
        detail=f"An analogue: a model of width {_DIM} with rotary positions, trained for "
        f"{config.single_chain_steps} steps on one chain only, {len(scores.accuracy)} seeds (mean, "
        "lowest and highest). Criterion, every seed: accuracy > 0.95 at K = 1, below 1/K + 0.12 "
        "and |p(target) - p(other)| < 0.1 at K = 2 to 5. Language models: row C1-LM.",
    )


def _too_shallow(config, run: Run, trained) -> Claim:
    statement = "Three layers are needed"
    if not config.shallow_seeds:
        return not_run("C9", statement, "This preset does not train it (--shallow_seeds).")
    if config.n_layers != 3:
        return not_run("C9", statement, "The control is of three layers (--n_layers=3).")
    main = [outcome for outcome in trained() if outcome.recipe == trained()[0].recipe]
    ends = [outcome.report.end for outcome in main if outcome.report.found]
    if not ends:
        detail = "No run of three layers made the transition (C2), to be held against two layers."
        return Claim("C9", statement, "", "", "fail", detail=detail)
    recipe = main[0].recipe
    every = config.eval_every
    steps = int(np.ceil(2 * np.median(ends) / every)) * every
    results = train_resumably(
        config,
        run,
        "two_layers",
        jax.random.split(study_key(config, 22), config.shallow_seeds),
        main_task(config),
        dataclasses.replace(recipe.model, n_layers=2),
        dataclasses.replace(recipe.train, steps=steps, stop_accuracy=None, keep_every=0),
    )
    accuracy = np.array([result.history["accuracy"][-1] for result in results])
    loss = np.array([result.history["eval_loss"][-1] for result in results])
    return Claim(
        "C9",
        statement,
        "",
        f"two layers: accuracy {_range(accuracy)}, loss {_range(loss)} at step {steps}",
        holds((accuracy < 0.5).all()),
        detail=f"{recipe.name} with two layers, {len(results)} seed(s), for twice the median step "
        "at which three layers reach p(target) = 0.9. Criterion: accuracy < 0.5.",
    )


def _length(scores: ByChains) -> Claim:
    return Claim(
        "C12",
        _LENGTH,
        "p(target) 1.00, 0.92, 0.89, 0.86 for K = 2 to 5 (Llama-2-7B, fine-tuned on K = 2)",
        f"accuracy {_series(scores.accuracy)} for K = 1 to 5",
        holds((scores.accuracy >= 0.95).all()),
        detail=f"An analogue: a model of width {_DIM} trained on two chains and six single hops, "
        f"tested on K chains and 10 - 2K single hops, {len(scores.accuracy)} seeds (mean, lowest "
        "and highest). Criterion: every seed >= 0.95 at every K. Language models: row C12-LM.",
    )


def _series(values: np.ndarray) -> str:
    """Mean (lowest to highest) of each column."""
    return ", ".join(
        f"{column.mean():.2f} ({column.min():.2f} to {column.max():.2f})" for column in values.T
    )


def _range(values: np.ndarray) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"
