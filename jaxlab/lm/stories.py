"""Short stories from a small grammar: training text without end, with a known entropy.

Every story draws from finite lists with equal chances and shows every draw in its text, so its
probability is known: no model can predict the stories better, on average, than their entropy
(in nats). A trained model's loss can be read against that floor.
"""

import math
from typing import NamedTuple

import numpy as np


class Story(NamedTuple):
    """text: the story; nats: minus the logarithm of its probability."""

    text: str
    nats: float


def write_story(rng: np.random.Generator) -> Story:
    """One story of three to six sentences; who does what with which thing stays consistent."""
    pen = _Pen(rng)
    pen.introduce()
    for _ in range(pen.pick((1, 2, 3, 4))):
        pen.pick(_EVENTS)(pen)
    pen.close()
    return Story(" ".join(pen.sentences), pen.nats)


def write_stories(seed: int, count: int) -> list[Story]:
    """`count` independent stories, the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [write_story(rng) for _ in range(count)]


class _Pen:
    """Writes one story and keeps account of the choices made."""

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self.nats = 0.0
        self.sentences: list[str] = []

    def pick(self, options):
        """One of `options`, each with the same chance."""
        self.nats += math.log(len(options))
        return options[int(self._rng.integers(len(options)))]

    def say(self, sentence: str):
        self.sentences.append(sentence[0].upper() + sentence[1:])

    def introduce(self):
        self.hero = self.pick(_NAMES)
        others = [name for name in _NAMES if name != self.hero]
        self.friend = self.pick(others)
        self.thing = f"{self.pick(_COLOURS)} {self.pick(_THINGS)}"
        self.place = self.pick(_PLACES)
        opening = self.pick(("one morning", "one evening", "last winter", "long ago"))
        self.say(f"{opening}, {self.hero} found a {self.thing} {self.place}.")

    def show(self):
        feeling = self.pick(_FEELINGS)
        self.say(f"{self.hero} showed the {self.thing} to {self.friend}, who was {feeling}.")

    def give(self):
        self.say(f"{self.hero} gave the {self.thing} to {self.friend}.")
        self.hero, self.friend = self.friend, self.hero

    def walk(self):
        self.place = self.pick(_PLACES)
        self.say(f"then {self.hero} and {self.friend} met {self.place}.")

    def count(self):
        first, second = self.pick(range(2, 6)), self.pick(range(1, 5))
        animals = self.pick(_ANIMALS)
        self.say(
            f"{self.hero} saw {_NUMBERS[first]} {animals}, and {self.friend} saw "
            f"{_NUMBERS[second]} more, so there were {_NUMBERS[first + second]} {animals}."
        )

    def close(self):
        ending = self.pick(("smiled", "went home", "fell asleep", "sang a song"))
        self.say(f"in the end {self.hero} kept the {self.thing}, and {self.friend} {ending}.")


_EVENTS = (_Pen.show, _Pen.give, _Pen.walk, _Pen.count)
_NAMES = ("Ada", "Ben", "Clara", "David", "Emmy", "Felix", "Greta", "Hugo", "Ida", "Jonas")
_COLOURS = ("red", "blue", "green", "golden", "silver", "tiny", "heavy", "broken")
_THINGS = ("key", "lantern", "bell", "book", "shell", "coin", "mirror", "kite", "clock", "map")
_PLACES = (
    "by the river",
    "in the old mill",
    "under the bridge",
    "on the hill",
    "behind the school",
    "at the market",
    "in the garden",
    "near the lighthouse",
)
_FEELINGS = ("happy", "afraid", "curious", "proud", "puzzled", "delighted")
_ANIMALS = ("ducks", "cats", "owls", "foxes", "bees", "horses")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
