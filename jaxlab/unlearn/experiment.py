"""The claims of both papers on forgetting, measured: `run(config, run)`."""

import dataclasses
from collections.abc import Callable, Set
from typing import Any

from jaxlab.checks import check_at_least
from jaxlab.runs import Claim, Run, check_choices, check_least, not_run, option
from jaxlab.unlearn.answers import FORMATS
from jaxlab.unlearn.data import SUBSET_MODES
from jaxlab.unlearn.muse import RETRAINED_AUC
from jaxlab.unlearn.studies import (
    checkpoints,
    divergence,
    markov,
    muse,
    random_features,
    simplicity,
    tofu_half,
    tofu_methods,
    tofu_quarter,
    tofu_relearning,
    tofu_search,
    tofu_sweeps,
)
from jaxlab.unlearn.studies.tofu_bench import Bench, load_bench, pretrained
from jaxlab.unlearn.studies.tofu_comparison import METHODS

EXPERIMENTS = ("divergence", "random_features", "markov", "tofu", "muse")
# Studies on language models that a preset may leave out, with the statements of their rows.
PARTS = {
    "quarter": tofu_quarter.STATEMENTS,
    "half": tofu_half.STATEMENTS,
    "relearning": tofu_relearning.STATEMENTS,
    "sweeps": tofu_sweeps.STATEMENTS,
    "muse": muse.STATEMENTS,
}
# Rows of mini-TOFU, in whose place --model_dir comes.
_OF_MINI_TOFU = tofu_methods.STATEMENTS | {
    row: statement for part in PARTS.values() for row, statement in part.items()
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the studies, and the user's own model and data."""

    experiment: str = option(
        "all",
        "which study; search, which all leaves out, looks for settings at search_percents",
        choices=("all", *EXPERIMENTS, "search"),
    )
    seed: int = option(0, "seed of data, weights and order")

    divergence_steps: int = option(20_000, "gradient steps of the logistic model")
    divergence_seeds: int = option(3, "data sets of it")
    alphas: tuple[float, ...] = option((1.0, 0.0), "where the clouds of random features lie")
    feature_seeds: int = option(5, "problems on random features")
    fit_steps: int = option(20_000, "gradient steps that fit the initial and the retrained model")
    feature_steps: int = option(2000, "gradient steps of unlearning there")
    beta_steps: int = option(2000, "the same, where NPO's beta goes to 0")
    chain_sequences: int = option(10_000, "sequences of the retained chain, and of both others")
    chain_width: int = option(128, "width of the transformer that learns the chains")
    chain_layers: int = option(4, "its layers")
    chain_epochs: int = option(5, "its epochs")
    chain_seeds: int = option(3, "orders in which the chains are forgotten")

    parts: tuple[str, ...] = option(
        tuple(PARTS), f"studies of tofu and muse that run, of {', '.join(PARTS)}"
    )
    tofu_authors: int = option(20, "TOFU authors from the beginning, and as many from the end")
    tofu_pretraining: int = option(3200, "questions of other authors to read first")
    tofu_pretrain_epochs: int = option(4, "epochs of that")
    tofu_epochs: int = option(12, "epochs over the authors")
    tofu_general_rows: int = option(120, "questions of general knowledge, of each of two kinds")
    tofu_vocab: int = option(2560, "size of the tokenizer that is trained")
    tofu_width: int = option(128, "width of the language model")
    tofu_layers: int = option(2, "its layers")
    tofu_length: int = option(80, "tokens of a question with its answer")
    tofu_questions: int = option(60, "questions evaluated of the forget and of the retain set")
    tofu_general: int = option(24, "general questions evaluated, of each kind")
    tofu_answer_tokens: int = option(40, "longest greedy answer, tokens")
    tofu_methods: tuple[str, ...] = option(tuple(METHODS), "methods compared")
    tofu_snapshots: int = option(5, "evaluations along each of their runs")
    num_seeds: int = option(
        3, "models made to forget in the rows of tofu that are judged; sweeps take the first"
    )
    other_percents: tuple[float, ...] = option(
        (1.0, 5.0, 50.0),
        "other forget sets, percent, on which the first model forgets by every method too",
    )
    retain_coeffs: tuple[float, ...] = option((0.0, 0.5, 1.0, 2.0, 5.0), "retain weights tried")
    gammas: tuple[float, ...] = option((0.0, 0.5, 1.0, 2.0), "margins tried")
    betas: tuple[float, ...] = option((0.1, 1.0, 2.5, 5.0), "temperatures of SimNPO tried")
    half_epochs: int = option(4, "epochs where half of the authors or more are forgotten")
    half_settings: int = option(3, "settings of each method there, at most 3")
    quarter_questions: int = option(200, "questions of the quarter that is forgotten, evaluated")
    quarter_epochs: int = option(6, "epochs there at the papers' temperatures")
    quarter_methods: tuple[str, ...] = option(
        tuple(tofu_quarter.SEARCHED), "methods there at searched settings"
    )
    search_percents: tuple[float, ...] = option(
        (10.0, 25.0, 50.0), "percent of the rows forgotten in a search"
    )
    search_methods: tuple[str, ...] = option(
        tuple(tofu_search.FORMS), "methods whose settings are searched"
    )
    search_cells: int = option(
        tofu_search.CELLS, f"settings of each method in a search, at most {tofu_search.CELLS}"
    )
    muse_epochs: int = option(10, "epochs over the documents")
    muse_passages: int = option(60, "passages and questions evaluated")
    step_rounds: int = option(9, "timings of a step with and without a reference model")

    method: str = option("npo+rt", "method for --model_dir, as npo+rt, simnpo+rt, ga, idk+rt, dpo")
    forget_percent: float = option(10.0, "percent of the rows to forget, the last ones")
    beta: float | None = option(None, "for --model_dir: temperature; None: the method's")
    gamma: float | None = option(None, "for --model_dir: margin; None: the method's")
    forget_coeff: float | None = option(None, "for --model_dir: weight; None: the method's")
    retain_coeff: float | None = option(None, "for --model_dir: weight; None: the method's")
    lr: float = option(5e-4, "peak learning rate of unlearning; the papers take 1e-5 for 7B")
    epochs: int = option(10, "epochs of unlearning")
    batch_size: int = option(32, "for --model_dir: forget rows a step, over all devices")
    relearn: tuple[str, ...] = option(SUBSET_MODES, "rows that the relearning attacks train on")
    model_dir: str | None = option(None, "Hugging Face folder to unlearn (with tofu or muse)")
    retrained_dir: str | None = option(None, "the same trained without the forget set")
    data_dir: str | None = option(
        None, "own data: forget.jsonl and retain.jsonl (tofu), or a MUSE corpus (muse)"
    )
    prompt_format: str = option(
        "question-answer", "what stands around questions to --model_dir", choices=tuple(FORMATS)
    )
    max_len: int = option(256, "tokens of a row for --model_dir")
    muse_corpus: str = option("news", "whose AUC PrivLeak takes", choices=tuple(RETRAINED_AUC))


PRESETS = {
    "smoke": Config(
        divergence_steps=4000,
        divergence_seeds=2,
        alphas=(1.0,),
        feature_seeds=1,
        fit_steps=2000,
        feature_steps=1000,
        beta_steps=1000,
        chain_sequences=1000,
        chain_width=32,
        chain_layers=1,
        chain_epochs=2,
        chain_seeds=1,
        parts=(),
        tofu_authors=4,
        tofu_pretraining=0,
        tofu_epochs=30,
        tofu_general_rows=16,
        tofu_vocab=1024,
        tofu_width=64,
        tofu_layers=1,
        tofu_questions=16,
        tofu_general=8,
        tofu_answer_tokens=16,
        tofu_methods=("GA", "GA+RT", "NPO+RT", "SimNPO+RT"),
        tofu_snapshots=1,
        num_seeds=1,
        other_percents=(),
        step_rounds=5,
        lr=2e-3,
        epochs=8,
    ),
    "small": Config(),
    "paper": Config(
        tofu_width=256,
        tofu_layers=4,
        tofu_questions=300,
        tofu_general=117,
        tofu_snapshots=10,
        num_seeds=5,
        max_len=500,
    ),
}

_COUNTS = (
    "divergence_steps",
    "divergence_seeds",
    "feature_seeds",
    "fit_steps",
    "feature_steps",
    "beta_steps",
    "chain_width",
    "chain_layers",
    "chain_epochs",
    "chain_seeds",
    "tofu_authors",
    "tofu_epochs",
    "tofu_general_rows",
    "tofu_layers",
    "tofu_questions",
    "tofu_general",
    "tofu_answer_tokens",
    "tofu_snapshots",
    "num_seeds",
    "half_epochs",
    "half_settings",
    "quarter_questions",
    "quarter_epochs",
    "search_cells",
    "muse_epochs",
    "muse_passages",
    "step_rounds",
    "epochs",
    "batch_size",
)


def run(config: Config, run: Run) -> list[Claim]:
    """Runs the chosen study, or all, and writes the claims.

    Raises:
      ValueError: an unknown name, sizes that make no sense, or data that is not what it should be.
      FileNotFoundError: no such file.
    """
    _check(config)
    claims = []
    chosen = EXPERIMENTS if config.experiment == "all" else (config.experiment,)
    if "divergence" in chosen:
        claims += divergence.measure(config, run)
    if "random_features" in chosen:
        claims += random_features.measure(config, run)
    if "markov" in chosen:
        claims += markov.measure(config, run)
    if config.model_dir:
        if config.experiment == "all":
            reason = "measured on mini-TOFU, in whose place --model_dir comes: leave that out"
            claims += simplicity.measure(config, run)
            claims += [not_run(row, text, reason) for row, text in _OF_MINI_TOFU.items()]
        if "tofu" in chosen:
            claims += checkpoints.measure_tofu(config, run)
        if config.experiment == "muse":
            claims += checkpoints.measure_muse(config, run)
    elif {"tofu", "muse", "search"} & set(chosen):
        bench = load_bench(config)
        start = pretrained(bench, run)
        if "search" in chosen:
            claims += tofu_search.measure(config, run, bench, start)
        if "tofu" in chosen:
            claims += _tofu(config, run, bench, start)
        if "muse" in chosen:
            claims += _part(config, "muse", lambda: muse.measure(config, run, bench, start))
    return run.write_claims(claims)


def _tofu(config: Config, run: Run, bench: Bench, start: Any) -> list[Claim]:
    claims = simplicity.measure(config, run)
    claims += tofu_methods.measure(config, run, bench, start)

    def quarters(count: int = config.num_seeds) -> list[tofu_quarter.Quarter]:
        models = (bench._replace(number=number) for number in range(count))
        return [tofu_quarter.prepare(config, run, model, start) for model in models]

    studies = {
        "quarter": lambda: tofu_quarter.measure(config, run, bench, start, quarters()),
        "half": lambda: tofu_half.measure(config, run, bench, start),
        "relearning": lambda: tofu_relearning.measure(config, run, bench, start, *quarters(1)),
        "sweeps": lambda: tofu_sweeps.measure(config, run, bench, start),
    }
    for name, study in studies.items():
        claims += _part(config, name, study)
    return claims


def _part(config: Config, name: str, study: Callable[[], list[Claim]]) -> list[Claim]:
    """The rows of a study, or that it did not run."""
    if name in config.parts:
        return study()
    reason = f"left out at this size; --parts={name} or a larger preset runs it"
    return [not_run(row, statement, reason) for row, statement in PARTS[name].items()]


def _check(config: Config) -> None:
    check_choices(config)
    check_least(config, dict.fromkeys(_COUNTS, 1))
    if config.tofu_authors > 20:
        raise ValueError(
            f"tofu_authors must be <= 20, the authors with wrong answers, got {config.tofu_authors}"
        )
    others = 4000 - 2 * 20 * config.tofu_authors
    if not 0 <= config.tofu_pretraining <= others:
        raise ValueError(
            f"tofu_pretraining must lie in 0..{others}, the questions of other authors, got "
            f"{config.tofu_pretraining}"
        )
    check_at_least("chain_sequences", config.chain_sequences, 50)
    if config.tofu_width % 8:
        raise ValueError(f"tofu_width must be a multiple of 8, got {config.tofu_width}")
    if config.half_settings > 3:
        raise ValueError(f"half_settings must be at most 3, got {config.half_settings}")
    if config.search_cells > tofu_search.CELLS:
        raise ValueError(f"search_cells must be <= {tofu_search.CELLS}, got {config.search_cells}")
    if config.model_dir and config.experiment == "search":
        raise ValueError("the search is on mini-TOFU; leave model_dir out")
    needed = {"GA", "GA+RT", "NPO+RT", "SimNPO+RT"}
    _check_names("tofu_methods", config.tofu_methods, tuple(METHODS), needed)
    _check_names("search_methods", config.search_methods, tuple(tofu_search.FORMS))
    _check_names("quarter_methods", config.quarter_methods, tuple(tofu_quarter.SEARCHED))
    _check_names("relearn", config.relearn, SUBSET_MODES)
    if set(config.parts) - PARTS.keys():
        raise ValueError(f"parts must be of {', '.join(PARTS)}, got {config.parts}")
    if "quarter" in config.parts and config.quarter_questions <= 20:
        raise ValueError(
            f"quarter_questions must be > 20, to hold two authors, got {config.quarter_questions}"
        )
    if not 0 < config.forget_percent < 100:
        raise ValueError(f"forget_percent must lie in (0, 100), got {config.forget_percent}")
    others = config.other_percents
    if config.forget_percent in others or not all(0 < percent < 100 for percent in others):
        raise ValueError(
            f"other_percents must lie in (0, 100) and leave out forget_percent, got {others}"
        )
    if not config.search_percents or not all(0 < p < 100 for p in config.search_percents):
        raise ValueError(f"search_percents must lie in (0, 100), got {config.search_percents}")
    if set(config.alphas) - {0.0, 1.0}:
        raise ValueError(f"alphas must be 0 and 1, got {config.alphas}")
    if config.data_dir and not config.model_dir:
        raise ValueError("data_dir needs a model to unlearn: give --model_dir")
    if config.model_dir and config.experiment == "muse" and not config.data_dir:
        raise ValueError("MUSE's texts are not part of this package: give --data_dir")
    _check_method(config)


def _check_method(config: Config) -> None:
    cfg = checkpoints.method_of(config)  # refuses an unknown one
    if not config.model_dir or config.experiment not in ("all", "tofu", "muse"):
        return
    if cfg.retain == "kl":
        raise ValueError(
            f"--method={config.method} keeps a second model; on a checkpoint use +rt, or the "
            "function unlearn"
        )
    if config.experiment == "muse" and cfg.needs_idk:
        raise ValueError(
            f"--method={config.method} needs refusals to questions, and MUSE forgets texts; use "
            "ga, npo or simnpo, each also with +rt"
        )


def _check_names(
    field: str, given: tuple[str, ...], known: tuple[str, ...], needed: Set[str] = frozenset()
) -> None:
    if not given or set(given) - set(known) or needed - set(given):
        least = f", with {', '.join(sorted(needed))} among them" if needed else ""
        raise ValueError(f"{field} must be of {', '.join(known)}{least}, got {given}")
