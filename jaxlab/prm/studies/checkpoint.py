"""The pipeline on problems in words, from any Hugging Face folder (claims P1 and A9).

Decomposition and answers are tuned jointly, a verifier is trained on automatic labels of
sub-answers, and expert iteration follows, beside outcome reinforcement and tuning continued.
The test is end to end: the network decomposes with its own plan, answers greedily, and its text's
`#### value` is compared exactly. Of StrategyQA's steps only the last has a known answer: its
verifier learns from candidates for that one, and from facts as gold solutions of the others.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlab import lm
from jaxlab.prm import sequential
from jaxlab.prm.answers import extract_answer, is_correct
from jaxlab.prm.data import (
    load_gsm8k,
    load_strategyqa,
    load_strategyqa_decompositions,
    problem_set,
)
from jaxlab.prm.decomposition import Decomposition, parse_socratic
from jaxlab.prm.packing import pack_whole
from jaxlab.prm.studies import texts
from jaxlab.prm.studies.config import AutoPRMConfig
from jaxlab.prm.studies.texts import Reader
from jaxlab.prm.studies.training import fit
from jaxlab.prm.text_verifier import TextVerifier, init_text_verifier, text_verifier_loss
from jaxlab.prm.vocabulary import MARKS, MarkedTokenizer, grow_vocabulary
from jaxlab.runs import Run, digest, latest_step, restore_checkpoint, save_checkpoint

GRANULARITIES = (0.25, 0.5, 0.75, 0.8, 1.0)  # mixed in tuning, so that the switch can be set
WEIGHT_DECAY = 0.05
_LARGE_VOCAB = 16_384  # from here on the logits of a batch outweigh the rest of a step


def measure_checkpoint(config: AutoPRMConfig, run: Run) -> dict[str, Any]:
    """All stages and arms on `config.model` and `config.data`.

    Returns:
      `curves`: arm to `final` [1, rounds + 1]; `realised`: share of the full plan's steps that
      the tuned network's own plans have, by granularity; `counts`: sizes of what was used.

    Raises:
      ValueError: no data, rows that are not Socratic, too few of them.
    """
    train, test = _problems(config)
    loaded, base = _load(config)
    found: dict[str, Any] = {"curves": {}, "counts": {"train": len(train), "test": len(test)}}
    content = digest((train, test))
    rounds = functools.partial(_iterate, config, run, content, train=train, test=test)
    for cgd in (True, False):
        reader, suffix = loaded._replace(cgd=cgd), "" if cgd else "_no_cgd"
        gold = _gold_rows(config, reader, train[: config.sft_problems])
        tuned = _kept(
            run,
            f"tuned{suffix}_{content}",
            base,
            functools.partial(_tune, config, reader, base, gold),
        )
        verifier = _kept(
            run,
            f"verifier{suffix}_{content}",
            init_text_verifier(base, reader.cfg.d_model),
            functools.partial(_judge, config, reader, tuned, train),
        )
        arms: dict[str, Callable | None] = {f"autoprm{suffix}": _by_subquestion}
        if cgd:
            arms |= {"orm": _by_final_answer, "sft_continued": None}
            found["realised"] = run.once(
                f"texts_granularity_{content}",
                functools.partial(_granularity, config, reader, tuned, test),
            )
        for name, accept in arms.items():
            found["curves"][name] = rounds(name, reader, tuned, verifier, gold, accept)
    return found


def _problems(config) -> tuple[list[Decomposition], list[tuple[str, str]]]:
    """(problems to train on, questions and answers to test on), none in both."""
    if not config.data:
        raise ValueError(
            "--model needs --data: Socratic training problems (GSM8K's train_socratic.jsonl; the "
            "file that comes with this package is GSM8K's test set) or StrategyQA's .json"
        )
    if is_strategyqa(config.data):
        return _strategyqa(config)
    test = load_gsm8k(config.test_data or problem_set("gsm8k_test"))[: config.test_problems]
    asked = {question for question, _ in test}
    train = []
    for number, (question, answer) in enumerate(load_gsm8k(config.data), 1):
        if question not in asked:
            try:
                train.append(parse_socratic(question, answer))
            except ValueError as error:
                raise ValueError(f"{config.data}: row {number}: {error}") from None
    return _shuffled(config, train), test


def is_strategyqa(path: str) -> bool:
    """Whether a file of problems is StrategyQA's JSON list, by its name; others are lines."""
    return path.endswith((".json", ".json.gz"))


def _strategyqa(config) -> tuple[list[Decomposition], list[tuple[str, str]]]:
    """As `_problems`; without test data a tenth of the questions is held out."""
    rows = load_strategyqa_decompositions(config.data, facts=True)
    rows = _shuffled(config, [row for row in rows if row.steps])
    if config.test_data:
        pairs = load_strategyqa(config.test_data)
    else:
        count = max(1, len(rows) // 10)
        pairs = [(row.problem, row.answer) for row in rows[:count]]
    test = [(question, f"#### {answer}") for question, answer in pairs[: config.test_problems]]
    asked = {question for question, _ in pairs}
    return _enough(config, [row for row in rows if row.problem not in asked]), test


def _shuffled(config, problems: list) -> list:
    _enough(config, problems)
    order = np.random.default_rng((config.seed, 5)).permutation(len(problems))
    return [problems[i] for i in order]


def _enough(config, problems: list) -> list:
    if len(problems) < 2:
        raise ValueError(
            f"{config.data} has {len(problems)} problems that are not tested on; need 2"
        )
    return problems


def _load(config) -> tuple[Reader, Any]:
    folder = Path(config.model)
    cfg, params = lm.load_hf(folder, dtype=np.float32)
    if config.row_tokens > cfg.max_seq_len or config.step_tokens >= config.row_tokens:
        raise ValueError(
            f"need step_tokens < row_tokens <= {cfg.max_seq_len}, the model's context, got "
            f"{config.step_tokens} and {config.row_tokens}"
        )
    tokenizer = MarkedTokenizer(lm.load_tokenizer(folder), cfg.vocab_size)
    cfg, params = grow_vocabulary(jax.random.key(config.seed), params, cfg, len(MARKS))
    return Reader(cfg, tokenizer, config.row_tokens, config.step_tokens, config.sample_rows), params


def _kept(run: Run, name: str, like: Any, compute: Callable[[], Any]) -> Any:
    """Parameters that are computed at most once in the life of the run."""
    folder = run.checkpoint_dir(name)
    if latest_step(folder) is None:
        save_checkpoint(folder, compute(), step=0)
    return restore_checkpoint(folder, like)


def _gold_rows(config, reader: Reader, problems) -> dict:
    """Packed rows of gold decompositions and answers, at the mix of granularities."""
    rng = np.random.default_rng((config.seed, 6))
    documents = []
    for epsilon in sorted({*GRANULARITIES, config.epsilon}):
        chosen = [p for p in problems if epsilon == config.epsilon or rng.random() < 0.2]
        plans = [texts.plan_text(problem, epsilon) for problem in chosen]
        documents += texts.answer_documents(reader, plans)
        documents += texts.plan_documents(reader, plans, epsilon)
    if not documents:
        raise ValueError(f"no text of {config.data} fits row_tokens={config.row_tokens}")
    return pack_whole(documents, reader.row_tokens, reader.tokenizer.pad_id)


def _train(config, reader: Reader, params, pools, *, steps, lr, seed, loss):
    return fit(
        reader.cfg,
        params,
        pools,
        rows=config.batch_rows,
        steps=steps,
        lr=lr,
        seed=seed,
        loss=loss,
        weight_decay=WEIGHT_DECAY,
    )


def _tune(config, reader: Reader, base, gold) -> Any:
    return _train(
        config,
        reader,
        base,
        [(gold, 1.0)],
        steps=config.sft_steps,
        lr=config.sft_lr,
        seed=config.seed,
        loss=_token_loss,
    )


def _judge(config, reader: Reader, tuned, train) -> TextVerifier:
    """A verifier of candidates that follow right steps, labelled by their sub-answers."""
    plans = [texts.plan_text(p, config.epsilon) for p in train[-config.verifier_problems :]]
    attempts = texts.answer_plans(
        jax.random.fold_in(jax.random.key(config.seed), 1),
        reader,
        tuned,
        None,
        plans,
        choose=sequential.first_right,
        k=config.verifier_candidates,
    )
    rows, labels = [], []
    for plan, problem in zip(plans, attempts, strict=True):
        for step, attempt in zip(plan.steps, problem, strict=False):
            if step.answer is None:
                continue
            for ids, complete in zip(attempt.ids, attempt.complete, strict=True):
                if complete:
                    rows.append([*attempt.prompt, *ids])
                    labels.append(texts.same_answer(reader.tokenizer.decode(ids), step))
    gold = [document.ids.tolist() for document in texts.answer_documents(reader, plans)]
    if not gold:
        raise ValueError(f"no text of {config.data} fits row_tokens={config.row_tokens}")
    pools = [(texts.judged_rows(reader, gold, 1.0), 1.0)]
    if rows:
        pools = [
            (texts.judged_rows(reader, rows, labels), 0.65),
            (texts.judged_rows(reader, gold, 1.0), 0.35),
        ]
    return _train(
        config,
        reader,
        init_text_verifier(tuned, reader.cfg.d_model),
        pools,
        steps=config.verifier_steps,
        lr=config.verifier_lr,
        seed=config.seed,
        loss=_step_loss,
    )


def _by_subquestion(config, key, reader, params, verifier, plans) -> list[lm.Document]:
    """The first candidate of each subquestion that the verifier thinks rather right."""
    attempts = texts.answer_plans(
        key, reader, params, verifier, plans, choose=sequential.first_accepted, k=config.k
    )
    return texts.attempt_documents(reader, [[a for a in p if a.accepted] for p in attempts])


def _by_final_answer(config, key, reader, params, verifier, plans) -> list[lm.Document]:
    """k whole traces, of which those count that end in the known answer."""
    repeated = [plan for plan in plans for _ in range(config.k)]
    attempts = texts.answer_plans(key, reader, params, None, repeated)
    won = [
        problem
        for plan, problem in zip(repeated, attempts, strict=True)
        if _final_right(reader, plan, problem, plan.answer)
    ]
    return texts.attempt_documents(reader, won)


def _final_right(reader: Reader, plan: Decomposition, attempts, answer: Any) -> bool:
    whole = len(attempts) == len(plan.steps) and attempts[-1].accepted
    return whole and is_correct(texts.said(reader, attempts[-1]), answer)


def _iterate(
    config, run: Run, content, name, reader: Reader, tuned, verifier, gold, accept, *, train, test
) -> dict[str, np.ndarray]:
    """Rounds of sampling, acceptance and training: `final` [1, rounds + 1]."""
    params, final = tuned, []

    def measured(params) -> dict:
        return {"final": _accuracy(config, reader, params, test)}

    def trained(params, number: int):
        return _round(config, run, name, reader, params, verifier, gold, accept, train, number)

    for number in range(config.rounds + 1):
        kept = run.once(f"{name}_round{number}_{content}", functools.partial(measured, params))
        final.append(float(kept["final"]))
        run.log(number, **{f"{name}/final": final[-1]})
        if number == config.rounds:
            break
        params = _kept(
            run,
            f"{name}_{number}_{content}",
            tuned,
            functools.partial(trained, params, number),
        )
    return {"final": np.array([final])}


def _round(config, run: Run, name, reader, params, verifier, gold, accept, train, number: int):
    """The parameters after one round; without `accept`, of tuning continued."""
    documents = []
    if accept is not None:
        rng = np.random.default_rng((config.seed, 7, number))
        count = min(config.round_problems, len(train))
        chosen = rng.choice(len(train), size=count, replace=False)
        plans = [texts.plan_text(train[i], config.epsilon) for i in chosen]
        key = jax.random.fold_in(jax.random.key(config.seed), 10 + number)
        documents = accept(config, key, reader, params, verifier, plans)
        run.log(number, **{f"{name}/accepted_texts": len(documents)})
    pools = [(gold, 1.0)]
    if documents:
        rows = pack_whole(documents, reader.row_tokens, reader.tokenizer.pad_id)
        pools = [(rows, 0.5), (gold, 0.5)]
    return _train(
        config,
        reader,
        params,
        pools,
        steps=config.rl_steps,
        lr=config.rl_lr,
        seed=100 + number,
        loss=_token_loss,
    )


def _accuracy(config, reader: Reader, params, test) -> float:
    """Share of test problems answered right with the network's own plans, greedily."""
    plans = texts.decompose(reader, params, [question for question, _ in test], config.epsilon)
    attempts = texts.answer_plans(
        jax.random.key(0), reader, params, None, plans, sampling=texts.GREEDY
    )
    gold = [extract_answer(answer) for _, answer in test]
    right = [
        _final_right(reader, plan, problem, answer)
        for plan, problem, answer in zip(plans, attempts, gold, strict=True)
    ]
    return float(np.mean(right))


def _granularity(config, reader: Reader, tuned, test) -> dict[str, np.ndarray]:
    """`epsilon` and `realised`: mean share of the steps that the plan at granularity 1 has."""
    questions = [question for question, _ in test[: config.plan_problems]]
    counts = {
        epsilon: np.array(
            [len(p.steps) for p in texts.decompose(reader, tuned, questions, epsilon)]
        )
        for epsilon in GRANULARITIES
    }
    shares = [float((counts[epsilon] / counts[1.0]).mean()) for epsilon in GRANULARITIES]
    return {"epsilon": np.array(GRANULARITIES), "realised": np.array(shares)}


def _token_loss(params, batch, key, *, cfg: lm.LMConfig):
    del key
    chunk = 1024 if cfg.vocab_size >= _LARGE_VOCAB else 0
    return lm.next_token_loss(params, cfg, batch, chunk=chunk, **_forward_options())


def _step_loss(verifier, batch, key, *, cfg: lm.LMConfig):
    return text_verifier_loss(verifier, batch, key, cfg=cfg, **_forward_options())


def _forward_options() -> dict[str, Any]:
    """Whole blocks are computed again in the backward pass where memory is the limit."""
    dtype = texts.compute_dtype()
    return {} if dtype is None else {"compute_dtype": dtype, "remat": "full"}
