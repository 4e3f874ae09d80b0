"""S6: MUSE's four metrics, on an analogue made of TOFU's authors or on the user's own corpus."""

import functools
from typing import Any

from jaxlab.runs import Claim, Run, progress, study_key
from jaxlab.unlearn import figures
from jaxlab.unlearn.answers import scoring
from jaxlab.unlearn.data import QA
from jaxlab.unlearn.methods import method_config
from jaxlab.unlearn.muse import MuseCorpus, chunk_text
from jaxlab.unlearn.muse_evaluation import muse_scores
from jaxlab.unlearn.privacy import privleak
from jaxlab.unlearn.studies.tofu_bench import (
    QUESTIONS_PER_AUTHOR,
    Bench,
    finetuned,
    joined,
    last,
    unlearning_optimizer,
    verdict,
)
from jaxlab.unlearn.task_vectors import apply_task_vector, task_vector
from jaxlab.unlearn.training import unlearn
from jaxlab.unlearn.types import LMBatch

_METHODS = {
    "GA": method_config("ga"),
    "GA+RT": method_config("ga+rt"),
    "NPO+RT": method_config("npo+rt"),
    "SimNPO+RT": method_config("simnpo+rt", beta=0.7, forget_coeff=1.0, retain_coeff=0.1),
}
_TASK_VECTOR = 5.0
STATEMENTS = {"S6": "SimNPO forgets with less loss of utility than NPO on MUSE"}
_PUBLISHED = (
    "News VerbMem / KnowMem forget / KnowMem retain / PrivLeak: original 58 / 63 / 54 / -99, GA 0 "
    "/ 0 / 0 / 20, NPO 3 / 57 / 38 / 109, SimNPO - / 45 / 40 / 73"
)


def measure(config, run: Run, bench: Bench, start: Any) -> list[Claim]:
    """Trains on documents of some authors, unlearns those of half of them, measures."""
    corpus = _corpus(bench)
    texts = {name: _passages(bench, corpus.raw[name]) for name in ("forget", "retain1")}
    asked = {
        name: bench.speaker.encode([(qa.question, qa.answer) for qa in corpus.knowmem[name]])
        for name in ("forget", "retain")
    }
    everything = joined(texts["forget"], texts["retain1"], asked["forget"], asked["retain"])
    kept = joined(texts["retain1"], asked["retain"])

    def train(name: str, params: Any, rows: LMBatch, **settings: Any) -> Any:
        key = study_key(config, f"MUSE: {name}")
        return finetuned(bench, params, rows, key, config.muse_epochs, **settings)

    known = run.once("muse_original", lambda: train("original", start, everything))
    never = run.once("muse_retrained", lambda: train("retrained", start, kept))
    score = functools.partial(
        muse_scores,
        bench.speaker,
        corpus=corpus,
        verbatim_tokens=bench.speaker.max_len // 2,
        answer_tokens=config.tofu_answer_tokens,
        examples=False,
    )
    found = run.once("muse_scores", lambda: {"original": score(known), "retrained": score(never)})

    def unlearned(cfg) -> dict:
        return score(_unlearned(bench, known, texts["forget"], kept, cfg))

    for name, cfg in progress(_METHODS.items(), "MUSE"):
        found[name] = run.once(f"muse_{name}", functools.partial(unlearned, cfg))

    def subtracted() -> dict:
        tuned = train("task vector", known, texts["forget"], peak=5e-4)
        return score(apply_task_vector(known, task_vector(tuned, known), alpha=-_TASK_VECTOR))

    found["task vector"] = run.once("muse_task_vector", subtracted)
    table = with_privleak(found)
    run.figure("muse", figures.muse(table))
    return [_claim(config, table)]


def with_privleak(found: dict) -> dict:
    """Scores with `privleak` against the retrained model's AUC."""
    auc = max(float(found["retrained"]["auc"]), 1e-6)
    return {
        name: row | {"privleak": privleak(float(row["auc"]), auc)} for name, row in found.items()
    }


def _claim(config, table: dict) -> Claim:
    rows = {name: {k: float(v) for k, v in row.items()} for name, row in table.items()}
    met = (
        rows["original"]["privleak"] <= -50
        and rows["GA"]["privleak"] > 0
        and rows["GA"]["knowmem_retain"] < 5
    )
    return Claim(
        "S6",
        STATEMENTS["S6"],
        _PUBLISHED,
        "VerbMem / KnowMem forget / KnowMem retain / PrivLeak: "
        + "; ".join(
            f"{name} {_row(rows[name])}" for name in ("original", "NPO+RT", "SimNPO+RT", "GA")
        ),
        verdict(config, met),
        detail="Documents made of TOFU authors (half to forget, as many kept, as many never seen), "
        f"{config.muse_epochs} epochs of training; all models: "
        + "; ".join(f"{name} {_row(row)}" for name, row in rows.items())
        + f"; AUC of the retrained model {rows['retrained']['auc']:.3f}. SimNPO against NPO is "
        "reported. A collapsed model finds what it forgot and what it never saw equally unlikely: "
        "the paper's GA has PrivLeak -24 on Books. Criterion: PrivLeak of the original <= -50; "
        "GA's > 0 with KnowMem retain near 0 (< 5).",
    )


def _row(row: dict) -> str:
    fields = ("verbmem", "knowmem_forget", "knowmem_retain", "privleak")
    return " / ".join(f"{row[field]:.0f}" for field in fields)


def _corpus(bench: Bench) -> MuseCorpus:
    """The analogue: a document is an author's answers; hold-out authors are never trained on."""
    count = bench.config.tofu_authors // 2 * QUESTIONS_PER_AUTHOR
    retain, holdout, forget = (
        bench.authors[:count],
        bench.authors[-2 * count : -count],
        bench.authors[-count:],
    )
    width = bench.speaker.max_len

    def text(questions: list[QA]) -> str:
        return " ".join(qa.answer for qa in questions)

    def passages(questions: list[QA]) -> list[list[int]]:
        rows = _passages(bench, text(questions)).tokens
        return [row.tolist() for row in rows]

    decode = bench.speaker.tokenizer.decode
    shown = bench.config.muse_passages
    verbatim = [
        (decode(row[: width // 2]), decode(row[width // 2 :])) for row in passages(forget)[:shown]
    ]
    return MuseCorpus(
        raw={"forget": text(forget), "retain1": text(retain), "holdout": text(holdout)},
        verbmem=verbatim,
        knowmem={"forget": forget[:shown], "retain": retain[:shown]},
        knowmem_icl={},
        privleak={
            name: [decode(row) for row in passages(questions)]
            for name, questions in (("forget", forget), ("retain", retain), ("holdout", holdout))
        },
    )


def _passages(bench: Bench, text: str) -> LMBatch:
    encode = functools.partial(bench.speaker.tokenizer.encode, add_special_tokens=False)
    return chunk_text(encode, text, max_len=bench.speaker.max_len)


def _unlearned(bench: Bench, known: Any, forget: LMBatch, kept: LMBatch, cfg) -> Any:
    config = bench.config
    batch_size = min(16, len(forget.tokens))
    per_epoch = -(-len(forget.tokens) // batch_size)
    epochs = max(config.epochs // 2, 1)
    hidden_fn, head = scoring(bench.speaker.cfg)
    result = unlearn(
        study_key(config, "MUSE: unlearning"),
        hidden_fn,
        known,
        forget,
        cfg=cfg,
        optimizer=unlearning_optimizer(config.lr, per_epoch, epochs),
        num_steps=per_epoch * epochs,
        batch_size=batch_size,
        retain=kept,
        num_snapshots=1,
        head=head,
    )
    return last(result.params)
