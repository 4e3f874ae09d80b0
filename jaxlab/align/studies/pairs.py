"""Speculative rejection and Best-of-n_init with common random numbers, prompt by prompt."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxlab.align.best_of_n import best_of_n
from jaxlab.align.documents import document_prompt, gold_reward
from jaxlab.align.schedule import PlannedRound
from jaxlab.align.speculative import SpecRejResult, speculative_rejection
from jaxlab.align.studies.models import Model, Stopwatch, language_model, search_settings
from jaxlab.runs import Run, progress, study_key


class Search(NamedTuple):
    """What speculative rejection with one alpha did in every pair [p, k].

    score, row, tokens_computed, seconds, cpu_seconds: [p, k].
    rounds: the rounds of each pair, [p][k] tuples of PlannedRound.
    """

    score: np.ndarray
    row: np.ndarray
    tokens_computed: np.ndarray
    seconds: np.ndarray
    cpu_seconds: np.ndarray
    rounds: list[list[tuple[PlannedRound, ...]]]


class Pairs(NamedTuple):
    """p prompts times k keys, n_init rows each.

    tokens: [p, k, n, N]. lengths, scores: [p, k, n], gold. seconds, cpu_seconds: [p, k] of
    Best-of-n_init. searches: by alpha.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray
    seconds: np.ndarray
    cpu_seconds: np.ndarray
    searches: dict[float, Search]

    @property
    def pool(self) -> np.ndarray:
        """All scores of a prompt, [p, k n]."""
        return self.scores.reshape(len(self.scores), -1)

    @property
    def best(self) -> np.ndarray:
        """Best-of-n_init's score in every pair, [p, k]."""
        return self.scores.max(axis=-1)


def pair_key(config, prompt: int, number: int) -> jax.Array:
    """The key of both methods in a pair."""
    return jax.random.fold_in(jax.random.fold_in(study_key(config, 1), prompt), number)


def draw_pairs(config, run: Run) -> Pairs:
    """Generates with both methods, once per run; every pair is a phase of its own."""
    model, watch = language_model(config, run), Stopwatch()
    places = [(i, j) for i in range(config.num_prompts) for j in range(config.num_keys)]
    results = {
        (i, j): run.once(f"pair_{i}_{j}", functools.partial(_run_pair, config, model, watch, i, j))
        for i, j in progress(places, "pairs of searches")
    }
    table = [[results[i, j] for j in range(config.num_keys)] for i in range(config.num_prompts)]
    plain = ("tokens", "lengths", "scores", "seconds", "cpu_seconds")
    return Pairs(
        **{name: _stack(table, name) for name in plain},
        searches={alpha: _collect(table, alpha) for alpha in config.alphas},
    )


def _run_pair(config, model: Model, watch: Stopwatch, topic: int, number: int) -> dict:
    key, prompt = pair_key(config, topic, number), document_prompt(topic)

    def plain():
        return best_of_n(
            key,
            model.policy,
            gold_reward,
            prompt,
            n=config.n_init,
            max_new_tokens=config.max_new_tokens,
        )

    def search(alpha):
        settings = search_settings(config, alpha, config.max_new_tokens)
        return speculative_rejection(key, model.policy, gold_reward, prompt, settings)

    every, times = watch("plain", plain)
    result = {
        "tokens": every.all_tokens.astype(np.int16),
        "lengths": every.all_lengths,
        "scores": every.all_scores,
        **times,
    }
    for alpha in config.alphas:
        found, times = watch(f"{alpha}", functools.partial(search, alpha))
        result[_name(alpha)] = _summarize(found) | times
    return result


def _summarize(found: SpecRejResult) -> dict:
    """What is stored of a search: choice, account, rounds [r, 4]."""
    return {
        "score": found.score,
        "row": found.row,
        "tokens_computed": found.tokens_computed,
        "rounds": np.array(
            [(r.active, r.bucket, r.start_length, r.new_tokens) for r in found.rounds]
        ),
    }


def _stack(table: list[list[dict]], name: str) -> np.ndarray:
    """One entry of every pair, [p, k, ...]."""
    return np.array([[result[name] for result in row] for row in table])


def _collect(table: list[list[dict]], alpha: float) -> Search:
    """The searches with one alpha, of every pair."""
    found = [[result[_name(alpha)] for result in row] for row in table]
    rounds = [
        [tuple(PlannedRound(*map(int, r)) for r in result["rounds"]) for result in row]
        for row in found
    ]
    arrays = {name: _stack(found, name) for name in Search._fields if name != "rounds"}
    return Search(**arrays, rounds=rounds)


def _name(alpha: float) -> str:
    return f"alpha {alpha}"
