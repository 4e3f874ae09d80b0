"""Generated multi-step problems whose full decomposition is known."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxlab.prm.decomposition import Decomposition, Step

_MOST_OPS = 6
NAMES = (
    "Ada Ben Cleo Dev Elif Finn Gita Hugo Ines Jon Kira Liam Mona Nils Olga Pablo Quinn Rosa Sven "
    "Tara Uma Vito Wanda Xena Yuri Zoe"
).split()
_ITEMS = "apples books coins eggs kites marbles pens shells stamps tickets".split()


@dataclass(frozen=True)
class ToyConfig:
    """How long and how hard the problems are.

    Attributes:
      min_ops, max_ops: links from the root to the asked person, uniform; at most 6.
      max_value: every number of things lies in 1..max_value.
      max_operand: the largest number added or taken away.
      distractor_prob: chance, at each link but the last, of a sibling: another person whose
        number follows from the same one and leads nowhere.
      shuffle: whether the sentences stand in random order.
      descendants: another person's number follows from each sibling's, so that a sibling does not
        give itself away by leading nowhere.
      compare: the question is whether the last person has more than one of the chain at least two
        links before, or the other way round: yes or no. Equal numbers only where the chain has no
        others. Needs min_ops >= 2.
    """

    min_ops: int = 2
    max_ops: int = 4
    max_value: int = 99
    max_operand: int = 9
    distractor_prob: float = 0.5
    shuffle: bool = True
    descendants: bool = False
    compare: bool = False

    def __post_init__(self):
        if not 1 <= self.min_ops <= self.max_ops <= _MOST_OPS:
            raise ValueError(
                f"need 1 <= min_ops <= max_ops <= {_MOST_OPS}, "
                f"got min_ops {self.min_ops}, max_ops {self.max_ops}"
            )
        if self.max_value < 2 or self.max_operand < 1:
            raise ValueError(
                "need max_value >= 2 and max_operand >= 1, "
                f"got {self.max_value} and {self.max_operand}"
            )
        if not 0 <= self.distractor_prob <= 1:
            raise ValueError(f"distractor_prob must lie in [0, 1], got {self.distractor_prob}")
        if self.compare and self.min_ops < 2:
            raise ValueError(f"compare needs min_ops >= 2, got {self.min_ops}")


class _Person(NamedTuple):
    name: str
    value: int
    fact: str
    solution: str


def toy_problem(rng: np.random.Generator, config: ToyConfig | None = None) -> Decomposition:
    """A problem with all its steps: the root, then at each link the sibling if any and the next.

    A sibling's descendant follows it; a comparison, if that is what is asked, is one step more. The
    same state of `rng` gives the same problem.
    """
    config = config or ToyConfig()
    num_ops = int(rng.integers(config.min_ops, config.max_ops + 1))
    siblings = rng.random(num_ops - 1) < config.distractor_prob
    names = iter(rng.permutation(NAMES).tolist())
    item = str(rng.choice(_ITEMS))
    name, value = next(names), int(rng.integers(1, config.max_value + 1))
    fact = f"{name} has {value} {item}."
    source = _Person(name, value, fact, fact)
    people, chain = [source], [source]
    for has_sibling in [*siblings, False]:
        if has_sibling:
            people.append(_derive(rng, config, source, next(names), item))
            if config.descendants:
                people.append(_derive(rng, config, people[-1], next(names), item))
        source = _derive(rng, config, source, next(names), item)
        people.append(source)
        chain.append(source)
    facts = [person.fact for person in people]
    if config.shuffle:
        facts = [facts[i] for i in rng.permutation(len(facts))]
    steps = [Step(_question(x.name, item), x.solution, str(x.value)) for x in people]
    if config.compare:
        steps.append(_comparison(rng, chain, item))
    problem = " ".join([*facts, steps[-1].question])
    return Decomposition(problem, tuple(steps), steps[-1].answer)


def to_socratic(d: Decomposition) -> dict[str, str]:
    """The row of a Socratic file, which `parse_socratic(**row)` reads back."""
    lines = [f"{step.question} ** {step.solution}" for step in d.steps]
    return {"question": d.problem, "answer": "\n".join([*lines, f"#### {d.answer}"])}


def _question(name: str, item: str) -> str:
    return f"How many {item} does {name} have?"


def _comparison(rng, chain: list[_Person], item: str) -> Step:
    """Whether the last of the chain has more than an earlier one, or the other way round."""
    last, earlier = chain[-1], chain[:-2]
    others = [person for person in earlier if person.value != last.value] or earlier
    pair = [last, others[rng.integers(len(others))]]
    one, other = (pair[i] for i in rng.permutation(2))
    answer = "yes" if one.value > other.value else "no"
    claim = f"{one.name} has more {item} than {other.name}"
    question = f"Does {one.name} have more {item} than {other.name}?"
    return Step(question, f"{claim}: {answer}.", answer)


def _derive(rng, config: ToyConfig, source: _Person, name: str, item: str) -> _Person:
    operands = range(1, config.max_operand + 1)
    choices = {
        "+": [b for b in operands if source.value + b <= config.max_value],
        "-": [b for b in operands if source.value - b >= 1],
        "*": [b for b in (2, 3) if source.value * b <= config.max_value],
    }
    operator = str(rng.choice([name for name, allowed in choices.items() if allowed]))
    b = int(rng.choice(choices[operator]))
    value = {"+": source.value + b, "-": source.value - b, "*": source.value * b}[operator]
    relation = {
        "+": f"{b} more {item} than",
        "-": f"{b} fewer {item} than",
        "*": f"{b} times as many {item} as",
    }[operator]
    expression = f"{source.value}{operator}{b}"
    return _Person(
        name,
        value,
        f"{name} has {relation} {source.name}.",
        f"{name} has {expression}=<<{expression}={value}>>{value} {item}.",
    )
