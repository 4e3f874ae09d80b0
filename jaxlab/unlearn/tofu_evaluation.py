"""TOFU's evaluation of a language model, in the layout of the official logs.

One compiled program scores all answers of all sets, and one writes the greedy answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab.unlearn.answers import Speaker, answer_nll
from jaxlab.unlearn.data import QA
from jaxlab.unlearn.memorization import repetition_rate
from jaxlab.unlearn.rouge import rouge_l
from jaxlab.unlearn.tofu_metrics import SPLITS
from jaxlab.unlearn.types import LMBatch


class Evaluation(NamedTuple):
    """Encoded questions of the four sets `retain`, `forget`, `real_authors`, `world_facts`.

    Attributes:
      speaker: the language model.
      sets: questions with paraphrases (where there are any) and wrong answers.
      rows: of all right, paraphrased and wrong answers, set after set, `[M, T]`.
      max_new_tokens: of a greedy answer.
    """

    speaker: Speaker
    sets: Mapping[str, Sequence[QA]]
    rows: LMBatch
    max_new_tokens: int

    @classmethod
    def encode(
        cls, speaker: Speaker, sets: Mapping[str, Sequence[QA]], *, max_new_tokens: int
    ) -> "Evaluation":
        """Encodes the sets.

        Raises:
          ValueError: a set that is missing, or questions without wrong answers.
        """
        missing = sorted(SPLITS.keys() - sets.keys())
        if missing:
            raise ValueError(f"sets {', '.join(missing)} are missing; there are {sorted(sets)}")
        for name, questions in sets.items():
            if not questions or len({len(qa.perturbed_answer) for qa in questions} | {0}) != 2:
                raise ValueError(f"{name} needs questions with the same number of wrong answers")
        pairs = [
            (qa.question, answer)
            for questions in sets.values()
            for answers in _columns(questions)
            for qa, answer in zip(questions, answers, strict=True)
        ]
        return cls(speaker, sets, speaker.encode(pairs), max_new_tokens)

    def logs(self, params: Any) -> dict[str, Any]:
        """The official logs of a model; see `tofu_report`.

        Beside the four sets, `answers` holds the greedy answers to the forget set as texts, and
        `repetition` the share of repeated 2-grams in each.
        """
        nll = answer_nll(self.speaker, params, self.rows)
        questions = [qa for rows in self.sets.values() for qa in rows]
        texts, ids = self.speaker.greedy_answers(
            params,
            [self.speaker.form.prompt(qa.question) for qa in questions],
            max_new_tokens=self.max_new_tokens,
        )
        rouge = [rouge_l(qa.answer, text).recall for qa, text in zip(questions, texts, strict=True)]
        logs: dict[str, Any] = {}
        place, asked = 0, 0
        for name, rows in self.sets.items():
            columns = len(_columns(rows))
            losses = nll[place : place + columns * len(rows)].reshape(columns, len(rows))
            wrong = len(rows[0].perturbed_answer)
            logs[SPLITS[name]] = {
                "avg_gt_loss": losses[0],
                "avg_paraphrased_loss": losses[-wrong - 1],
                "average_perturb_loss": losses[-wrong:].T,
                "rougeL_recall": np.array(rouge[asked : asked + len(rows)]),
            }
            if name == "forget":
                logs["answers"] = np.array(texts[asked : asked + len(rows)])
                logs["repetition"] = np.array(
                    [repetition_rate(row, n=2) for row in ids[asked : asked + len(rows)]]
                )
            place, asked = place + columns * len(rows), asked + len(rows)
        return logs

    def path_logs(self, path: Any) -> dict[str, dict[str, Any]]:
        """Logs of every model along a path (leaves `[snapshots, ...]`), under "1", "2", ..."""
        count = len(jax.tree.leaves(path)[0])
        return {
            str(i + 1): self.logs(jax.tree.map(lambda leaf, i=i: leaf[i], path))
            for i in range(count)
        }


def _columns(questions: Sequence[QA]) -> list[list[str]]:
    """Right answers, paraphrases where all have one, and each column of wrong answers."""
    columns = [[qa.answer for qa in questions]]
    paraphrases = [x for qa in questions if (x := qa.paraphrased_answer) is not None]
    if len(paraphrases) == len(questions):
        columns.append(paraphrases)
    return columns + [
        list(column) for column in zip(*(qa.perturbed_answer for qa in questions), strict=True)
    ]
