"""Two-hop questions in English for real language models, and how to score them."""

import dataclasses
import itertools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.checks import check_at_least
from jaxlab.user_files import read_json

MAX_CHAINS = 5


class Prompt(NamedTuple):
    """A question whose answer takes two of its premises.

    Attributes:
      question: premises and the beginning of the answer's sentence, without a final space.
      answer: a space and the target chain's end.
      other_answers: the same of the other chains, in their order.
      chains: (source, bridge, end) of every chain.
      target: which chain is asked for.
      topic: name of the template.
    """

    question: str
    answer: str
    other_answers: tuple[str, ...]
    chains: tuple[tuple[str, str, str], ...]
    target: int
    topic: str


class TokenPrompt(NamedTuple):
    """A question of a prompt file, with the first token ids of its possible answers."""

    question: str
    answer: str
    target_id: int
    other_ids: tuple[int, ...]


class PromptScores(NamedTuple):
    """Means over prompts, and standard errors of the per-prompt values.

    Attributes:
      p_target, se_target: probability of the right answer's first token.
      p_other, se_other: mean probability of another end's; NaN with one chain.
      accuracy: share of prompts whose most likely token is the right one.
      accuracy_ends: share whose right end is likelier than every other end.
    """

    p_target: jax.Array
    p_other: jax.Array
    se_target: jax.Array
    se_other: jax.Array
    accuracy: jax.Array
    accuracy_ends: jax.Array


def _combine(first: str, second: str) -> tuple[str, ...]:
    """Invented names: every beginning with every ending."""
    pairs = itertools.product(first.split(), second.split())
    return tuple(beginning + ending for beginning, ending in pairs)


_NAMES = tuple(
    "Ada Beatrix Clara Dora Edith Flora Greta Hilda Irene Judith Karin Lydia Martha Nora Olive "
    "Paula Rosa Sophie Thelma Ursula Adam Bruno Carl Dennis Edgar Felix Gilbert Hugo Ivan Jasper "
    "Kurt Leo Martin Nils Oscar Peter Ralf Simon Theo Victor".split()
)
_WOMEN, _MEN = _NAMES[:20], _NAMES[20:]
_CITIES = _combine("Bel Cor Dun Far Gal", "mora wick tesk olan")
_STATES = _combine("Hen Jas Kel Lor Mar", "vania deria bosk tumra")
_COUNTRIES = _combine("Nor Os Pel Quin Rav", "andia ersia imbor utland")
_SPECIES = _combine("albi brevi caudi denti", "folia pennis rostra color spina")
_GENERA = _combine("Amphi Brachy Crypto Dendro", "dora lepis myra phora toma")
_FAMILIES = _combine("Sel Tar Und Vor", "oidae anidae ipidae uridae obidae")
_LANGUAGES = _combine("Ark Bram Cel Dov Est", "ish ese ari ovan")


@dataclasses.dataclass(frozen=True)
class _Topic:
    """Where the three entities of a chain come from, the two premises, and the question."""

    name: str
    pools: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    first_hop: str
    second_hop: str
    question: str


_TOPICS = (
    _Topic(
        "grandmother",
        (_WOMEN, _WOMEN, _WOMEN),
        "The mother of {source} is {bridge}",
        "The mother of {bridge} is {end}",
        "The maternal grandmother of {source} is",
    ),
    _Topic(
        "grandfather",
        (_MEN, _MEN, _MEN),
        "The father of {source} is {bridge}",
        "The father of {bridge} is {end}",
        "The paternal grandfather of {source} is",
    ),
    _Topic(
        "country",
        (_CITIES, _STATES, _COUNTRIES),
        "The town of {source} is part of the province of {bridge}",
        "The province of {bridge} is part of the nation of {end}",
        "The town of {source} is part of the nation of",
    ),
    _Topic(
        "family",
        (_SPECIES, _GENERA, _FAMILIES),
        "Botanists place the species {source} in the genus {bridge}",
        "Botanists place the genus {bridge} in the family {end}",
        "Botanists place the species {source} in the family",
    ),
    _Topic(
        "time zone",
        (_CITIES, _CITIES, _CITIES),
        "Three hours ahead of {source} is {bridge}",
        "Three hours ahead of {bridge} is {end}",
        "Six hours ahead of {source} is",
    ),
    _Topic(
        "language",
        (_NAMES, _COUNTRIES, _LANGUAGES),
        "The home of {source} is in {bridge}",
        "Everybody in {bridge} talks in {end}",
        "At home {source} talks in",
    ),
)


def make_prompts(seed: int, n_chains: int, n_prompts: int) -> list[Prompt]:
    """Writes questions with `n_chains - 1` distracting chains; topics are uniform.

    Args:
      seed: of everything random.
      n_chains: K, 1 to 5.
      n_prompts: how many.

    Raises:
      ValueError: `n_chains` outside [1, 5] or `n_prompts` below 1.
    """
    if not 1 <= n_chains <= MAX_CHAINS:
        raise ValueError(f"n_chains must lie between 1 and {MAX_CHAINS}, got {n_chains}")
    check_at_least("n_prompts", n_prompts, 1)
    rng = np.random.default_rng(seed)
    return [_write_prompt(rng, n_chains) for _ in range(n_prompts)]


def _write_prompt(rng: np.random.Generator, n_chains: int) -> Prompt:
    topic = _TOPICS[rng.integers(len(_TOPICS))]
    chains = _draw_chains(rng, topic, n_chains)
    target = int(rng.integers(n_chains))
    # Shuffle the places of all premises; each chain's first hop takes the earlier of its two.
    places = np.sort(rng.permutation(2 * n_chains).reshape(n_chains, 2), axis=1)
    sentences = [""] * (2 * n_chains)
    for (source, bridge, end), (early, late) in zip(chains, places, strict=True):
        sentences[early] = topic.first_hop.format(source=source, bridge=bridge)
        sentences[late] = topic.second_hop.format(bridge=bridge, end=end)
    question = ". ".join([*sentences, topic.question.format(source=chains[target][0])])
    ends = [f" {end}" for _, _, end in chains]
    others = tuple(end for number, end in enumerate(ends) if number != target)
    return Prompt(question, ends[target], others, chains, target, topic.name)


def _draw_chains(
    rng: np.random.Generator, topic: _Topic, n_chains: int
) -> tuple[tuple[str, str, str], ...]:
    """All entities of a prompt differ, also where two places of a chain share a pool."""
    columns, used = [], set()
    for pool in topic.pools:
        free = [name for name in pool if name not in used]
        column = [free[i] for i in rng.permutation(len(free))[:n_chains]]
        used.update(column)
        columns.append(column)
    return tuple(zip(*columns, strict=True))


def load_prompts_json(path: str | os.PathLike) -> dict[int, list[TokenPrompt]]:
    """Reads a prompt file: an object keyed by K, each a list of questions with token ids.

    The token ids belong to one tokenizer. An entry holds `question`, `answer`, `query_names` (ids
    of source, bridge, end) and `non_query_names` (the same of each other chain in turn).

    Raises:
      FileNotFoundError: no such file.
      ValueError: not such a file; the message names K, the entry and the field.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object keyed by the number of chains")
    prompts = {}
    for key, entries in content.items():
        if not (key.isdigit() and int(key) >= 1):
            raise ValueError(f"{path}: key {key!r} is not a number of chains")
        if not isinstance(entries, list):
            raise ValueError(f"{path}: K={key} must be a list of entries, got {entries!r:.60}")
        prompts[int(key)] = [
            _token_prompt(f"{path}: K={key}, entry {index}", entry, int(key))
            for index, entry in enumerate(entries)
        ]
    return prompts


def _token_prompt(where: str, entry: Any, n_chains: int) -> TokenPrompt:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be an object, got {entry!r:.60}")
    wanted = {"query_names": 3, "non_query_names": 3 * (n_chains - 1)}
    for field in ("question", "answer", *wanted):
        if field not in entry:
            raise ValueError(f"{where} has no field {field}")
    for field in ("question", "answer"):
        if not isinstance(entry[field], str):
            raise ValueError(f"{where}: {field} must be a text, got {entry[field]!r:.60}")
    for field, count in wanted.items():
        ids = entry[field]
        if not (isinstance(ids, list) and all(isinstance(token, int) for token in ids)):
            raise ValueError(f"{where}: {field} must be a list of ids, got {ids!r:.60}")
        if len(ids) != count:
            raise ValueError(f"{where}: {field} must hold {count} ids, got {len(ids)}")
    return TokenPrompt(
        entry["question"],
        entry["answer"],
        entry["query_names"][2],
        tuple(entry["non_query_names"][2::3]),
    )


def score_next_token(
    logits: ArrayLike, target_ids: ArrayLike, other_ids: ArrayLike
) -> PromptScores:
    """Scores next-token logits, in float32 whatever dtype they come in.

    Args:
      logits: `[N, V]` at the end of each prompt.
      target_ids: `[N]` first token of the right answer.
      other_ids: `[N, K-1]` first tokens of the other ends.

    Raises:
      ValueError: shapes that do not fit.
    """
    logits, target_ids, other_ids = map(jnp.asarray, (logits, target_ids, other_ids))
    count = target_ids.shape[0] if target_ids.ndim == 1 else -1
    fits = logits.ndim == 2 and other_ids.ndim == 2
    if not fits or logits.shape[0] != count or other_ids.shape[0] != count:
        raise ValueError(
            "wanted logits [N, V], target_ids [N] and other_ids [N, K-1], got "
            f"{logits.shape}, {target_ids.shape} and {other_ids.shape}"
        )
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    target = jnp.take_along_axis(probs, target_ids[:, None], axis=1)[:, 0]
    alone = other_ids.shape[1] == 0
    if alone:
        other_ids = other_ids.astype(jnp.int32)  # of empty rows numpy makes floats
    others = jnp.take_along_axis(probs, other_ids, axis=1)
    nan = jnp.full((), jnp.nan)
    mean_other = nan if alone else others.mean(1)
    return PromptScores(
        target.mean(),
        nan if alone else mean_other.mean(),
        _standard_error(target),
        nan if alone else _standard_error(mean_other),
        (probs.argmax(1) == target_ids).mean(),
        (target[:, None] > others).all(1).mean(),
    )


def _standard_error(values: jax.Array) -> jax.Array:
    return values.std(ddof=1) / values.size**0.5
