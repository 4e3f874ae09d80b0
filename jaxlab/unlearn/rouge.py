"""ROUGE-L: the longest common subsequence of two texts.

Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. The text is split as
Google's rouge_score does it, whose numbers the benchmarks report.
"""

import functools
import re
from typing import NamedTuple


class Rouge(NamedTuple):
    """Shares of the longest common subsequence, each in [0, 1].

    Attributes:
      precision: of the words of the hypothesis.
      recall: of the words of the reference.
      fmeasure: harmonic mean of the two.
    """

    precision: float
    recall: float
    fmeasure: float


def rouge_l(reference: str, hypothesis: str, *, use_stemmer: bool = True) -> Rouge:
    """ROUGE-L of a hypothesis; all 0 where either text has no words.

    Args:
      reference, hypothesis: texts. Words are runs of a-z and 0-9 after lowering the case; other
        letters separate words.
      use_stemmer: compare Porter stems of words longer than three letters (TOFU does, MUSE does
        not). Needs nltk, `pip install "jaxlab[unlearn]"`.
    """
    first, second = words(reference, use_stemmer), words(hypothesis, use_stemmer)
    if not first or not second:
        return Rouge(0.0, 0.0, 0.0)
    common = _common_subsequence(first, second)
    precision, recall = common / len(second), common / len(first)
    return Rouge(precision, recall, 2 * common / (len(first) + len(second)))


def words(text: str, use_stemmer: bool) -> list[str]:
    """The words that ROUGE compares."""
    found = re.findall("[a-z0-9]+", text.lower())
    return [_stem(word) if len(word) > 3 else word for word in found] if use_stemmer else found


@functools.lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    return _stemmer().stem(word)


@functools.cache
def _stemmer():
    from nltk.stem.porter import PorterStemmer  # takes a second to import

    return PorterStemmer()


def _common_subsequence(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence, one row of the table at a time."""
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            above = lengths[j]
            lengths[j] = diagonal + 1 if word == other else max(above, lengths[j - 1])
            diagonal = above
    return lengths[-1]
