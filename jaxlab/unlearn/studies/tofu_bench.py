"""Mini-TOFU: forty of the real authors, and a language model trained here to know them.

The model is pretrained on the other authors and on general knowledge, so that it can read, and
fine-tuned on the forty until it knows them by heart. A retrained model starts from the same
pretrained weights and never sees the forget set.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlab import lm
from jaxlab.runs import Run, holds, study_key
from jaxlab.unlearn.answers import FORMATS, Speaker, scoring
from jaxlab.unlearn.data import QA, split_indices
from jaxlab.unlearn.methods import UnlearnConfig
from jaxlab.unlearn.tofu import load_refusals, load_tofu
from jaxlab.unlearn.tofu_evaluation import Evaluation
from jaxlab.unlearn.training import relearn, unlearn, warmup_linear
from jaxlab.unlearn.types import LMBatch

QUESTIONS_PER_AUTHOR = 20
_PRETRAIN_RATE, _FINETUNE_RATE, _FINETUNE_BATCH = 2e-3, 3e-3, 16
_WEIGHT_DECAY = 0.01


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one unlearning run is made.

    Attributes:
      cfg: the method.
      lr: peak learning rate; it rises over the first epoch and falls to 0.
      epochs: passes over the forget set.
      batch_size: forget rows of a step, and as many retain rows.
      snapshots: models along the way that are evaluated.
    """

    cfg: UnlearnConfig
    lr: float = 5e-4
    epochs: int = 10
    batch_size: int = 16
    snapshots: int = 1


class Bench(NamedTuple):
    """The data of mini-TOFU and the model's form.

    Attributes:
      speaker: tokenizer and model.
      authors: `[N]` questions of the authors, the last ones to be forgotten.
      perturbed: the same with paraphrases and wrong answers.
      general: questions under `real_authors` and `world_facts`.
      pretraining: questions of other authors.
      author_rows, general_rows, refusal_rows: encoded; refusals belong to `authors` row by row.
      config: sizes and epochs.
      number: which of the models that know the authors; each has an order of its own in
        training and in unlearning. What they start from, and what is retrained, they share.
    """

    speaker: Speaker
    authors: list[QA]
    perturbed: list[QA]
    general: dict[str, list[QA]]
    pretraining: list[QA]
    author_rows: LMBatch
    general_rows: LMBatch
    refusal_rows: LMBatch
    config: Any
    number: int = 0

    def key(self, use: str) -> jax.Array:
        """The key of one use of random numbers, with this model."""
        return jax.random.fold_in(study_key(self.config, use), self.number)

    def split(self, percent: float) -> tuple[np.ndarray, np.ndarray]:
        """(retain, forget) row numbers of `authors`."""
        return split_indices(len(self.authors), percent)

    def evaluation(self, forget: np.ndarray, retain: np.ndarray, questions: int) -> Evaluation:
        """An evaluation on the first `questions` of the forget and of the retain rows."""
        shown = self.config.tofu_general
        sets = {
            "retain": [self.perturbed[i] for i in retain[: self.config.tofu_questions]],
            "forget": [self.perturbed[i] for i in forget[:questions]],
            **{name: rows[:shown] for name, rows in self.general.items()},
        }
        return Evaluation.encode(self.speaker, sets, max_new_tokens=self.config.tofu_answer_tokens)


def load_bench(config) -> Bench:
    """Reads the questions, trains the tokenizer, encodes."""
    full, side = load_tofu("full"), config.tofu_authors * QUESTIONS_PER_AUTHOR
    authors = full[:side] + full[-side:]
    perturbed = load_tofu("retain_perturbed")[:side] + load_tofu("forget10_perturbed")[-side:]
    others = full[side : side + config.tofu_pretraining]
    general = {
        name: load_tofu(f"{name}_perturbed")[: config.tofu_general_rows]
        for name in ("real_authors", "world_facts")
    }
    known = [qa for rows in general.values() for qa in rows]
    refusals = load_refusals()
    form = FORMATS["plain"]
    texts = [form.prompt(qa.question) + qa.answer for qa in authors + others + known]
    tokenizer = lm.train_tokenizer(texts + refusals, config.tofu_vocab)
    width = config.tofu_width
    cfg = lm.LMConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=width,
        n_layers=config.tofu_layers,
        n_heads=4,
        n_kv_heads=4,
        head_dim=width // 4,
        d_ff=8 * width // 3,
        max_seq_len=256,
        eos_ids=(tokenizer.eos_id,),
        pad_id=tokenizer.pad_id,
    )
    speaker = Speaker(tokenizer, cfg, lm.make_apply_fn(cfg), form, config.tofu_length)
    drawn = draw_refusals(study_key(config, "refusals"), len(refusals), len(authors))
    pairs = [(qa.question, qa.answer) for qa in authors]
    return Bench(
        speaker,
        authors,
        perturbed,
        general,
        others,
        speaker.encode(pairs),
        speaker.encode([(qa.question, qa.answer) for qa in known]),
        speaker.encode([(qa.question, refusals[i]) for qa, i in zip(authors, drawn, strict=True)]),
        config,
    )


def draw_refusals(key: jax.Array, kinds: int, count: int) -> np.ndarray:
    """Which of `kinds` refusals belongs to each of `count` questions."""
    return np.asarray(jax.random.randint(key, (count,), 0, kinds))


def pretrained(bench: Bench, run: Run) -> Any:
    """Parameters that have read the other authors and the general questions."""
    config = bench.config
    init = lm.init_params(study_key(config, "weights"), bench.speaker.cfg)
    if not config.tofu_pretraining:
        return init

    def train() -> Any:
        others = bench.speaker.encode([(qa.question, qa.answer) for qa in bench.pretraining])
        rows = joined(others, bench.general_rows)
        key = study_key(config, "pretraining")
        return finetuned(bench, init, rows, key, config.tofu_pretrain_epochs, _PRETRAIN_RATE, 32)

    return run.once("tofu_pretrained", train)


def original(bench: Bench, run: Run, start: Any) -> Any:
    """Parameters that know all authors."""
    rows = joined(bench.author_rows, bench.general_rows)
    return run.once(
        f"tofu_original_{bench.number}",
        functools.partial(_knowing, bench, start, rows, bench.key("training: original")),
    )


def retrained(bench: Bench, run: Run, start: Any, percent: float) -> Any:
    """Parameters that know the authors but for the forget set of this size; one for all models."""
    retain, _ = bench.split(percent)
    rows = joined(take(bench.author_rows, retain), bench.general_rows)
    name = f"retrained_{percent:g}"
    key = bench._replace(number=0).key(f"training: {name}")
    return run.once(f"tofu_{name}", functools.partial(_knowing, bench, start, rows, key))


def _knowing(bench: Bench, start: Any, rows: LMBatch, key: jax.Array) -> Any:
    return finetuned(bench, start, rows, key, bench.config.tofu_epochs)


def finetuned(
    bench: Bench,
    params: Any,
    rows: LMBatch,
    key: jax.Array,
    epochs: int,
    peak: float = _FINETUNE_RATE,
    batch_size: int = _FINETUNE_BATCH,
) -> Any:
    """Parameters after training on rows with a cosine schedule."""
    steps = max(epochs * len(rows.tokens) // batch_size, 1)
    hidden_fn, head = scoring(bench.speaker.cfg)
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps, peak / 50)
    return relearn(
        key,
        hidden_fn,
        params,
        rows,
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=_WEIGHT_DECAY)
        ),
        num_steps=steps,
        batch_size=batch_size,
        head=head,
    ).params


def unlearned(
    bench: Bench,
    params: Any,
    forget: np.ndarray,
    retain: np.ndarray,
    recipe: Recipe,
    key: jax.Array,
) -> Any:
    """The models along one unlearning run, leaves `[snapshots, ...]`."""
    batch_size = min(recipe.batch_size, len(forget))
    per_epoch = -(-len(forget) // batch_size)
    hidden_fn, head = scoring(bench.speaker.cfg)
    return unlearn(
        key,
        hidden_fn,
        params,
        take(bench.author_rows, forget),
        cfg=recipe.cfg,
        optimizer=unlearning_optimizer(recipe.lr, per_epoch, recipe.epochs),
        num_steps=per_epoch * recipe.epochs,
        batch_size=batch_size,
        retain=take(bench.author_rows, retain),
        idk=take(bench.refusal_rows, forget),
        num_snapshots=recipe.snapshots,
        head=head,
    ).params


@functools.cache  # one object for one setting: the compiled program is found by it
def unlearning_optimizer(
    lr: float, steps_per_epoch: int, epochs: int
) -> optax.GradientTransformation:
    """AdamW with the papers' schedule."""
    schedule = warmup_linear(lr, steps_per_epoch, epochs)
    return optax.adamw(schedule, weight_decay=_WEIGHT_DECAY)


def take(rows: LMBatch, index: np.ndarray) -> LMBatch:
    """The chosen rows."""
    return LMBatch(rows.tokens[index], rows.labels[index])


def joined(*parts: LMBatch) -> LMBatch:
    """The rows of all parts."""
    return LMBatch(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def last(path: Any) -> Any:
    """The model at the end of a path."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[-1]), path)


def verdict(config, condition) -> str:
    """That of a criterion, which is for models that know what they shall forget."""
    learned = config.tofu_authors >= 20 and config.tofu_epochs >= 12
    return holds(condition) if learned else "reported"
