"""Problems in words for a checkpoint: documents, plans, and answers to one subquestion at a time.

A text is prompt and target in the forms of `prompts`; the target of a decomposition is its
subquestions, a line each, and `<END>`, that of a subquestion its solution and `<SEP>`. The last
solution ends in GSM8K's line `#### value`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.prm import sequential
from jaxlab.prm.answers import is_correct
from jaxlab.prm.decomposition import Decomposition, Step, set_granularity, step_answer
from jaxlab.prm.numbers import parse_number
from jaxlab.prm.prompts import qa_prompt, qd_prompt
from jaxlab.prm.text_verifier import TextVerifier, text_logits
from jaxlab.prm.vocabulary import MarkedTokenizer

GREEDY, SAMPLED = lm.SamplingConfig(temperature=0), lm.SamplingConfig()
MOST_STEPS = 12  # of a plan that the network writes

_text_logits = jax.jit(text_logits, static_argnames=("cfg", "compute_dtype"))


class Reader(NamedTuple):
    """A model's form and limits: how texts become rows and rows texts.

    Attributes:
      cfg, tokenizer: of the model, its vocabulary grown by the marks.
      row_tokens, step_tokens: most tokens of a whole text, and of what is generated.
      rows: that are generated at a time.
      cgd: whether a subquestion's prompt shows the next one.
    """

    cfg: lm.LMConfig
    tokenizer: MarkedTokenizer
    row_tokens: int
    step_tokens: int
    rows: int
    cgd: bool = True


class Attempt(NamedTuple):
    """Candidates for one subquestion, of which one was chosen.

    prompt: ids; ids: k lists of ids, `<SEP>` included; complete, reward: [k]; chosen: an index.
    """

    prompt: list[int]
    ids: list[list[int]]
    complete: np.ndarray
    reward: np.ndarray
    chosen: int
    accepted: bool


def plan_text(full: Decomposition, epsilon: float) -> Decomposition:
    """The problem at a granularity, its last solution ending in the final answer."""
    plan = set_granularity(full, epsilon)
    *before, last = plan.steps
    last = last._replace(solution=f"{last.solution}\n#### {plan.answer}")
    return plan._replace(steps=(*before, last))


def answer_documents(reader: Reader, plans: Sequence[Decomposition]) -> list[lm.Document]:
    """A document for each subquestion; those that do not fit a row are left out."""
    encode = reader.tokenizer.encode
    pairs = (
        (
            step_prompt(reader, plan, [step.solution for step in plan.steps[:t]], t),
            [*encode(plan.steps[t].solution), reader.tokenizer.sep_id],
        )
        for plan in plans
        for t in range(len(plan.steps))
    )
    return _documents(reader, pairs)


def plan_documents(
    reader: Reader, plans: Sequence[Decomposition], epsilon: float
) -> list[lm.Document]:
    """A document for each decomposition."""
    encode = reader.tokenizer.encode
    pairs = (
        (
            _plan_prompt(reader, plan.problem, epsilon),
            [*encode("\n".join(step.question for step in plan.steps)), reader.tokenizer.end_id],
        )
        for plan in plans
    )
    return _documents(reader, pairs)


def attempt_documents(reader: Reader, attempts: Sequence[Sequence[Attempt]]) -> list[lm.Document]:
    """The chosen candidates, each once."""
    texts = {}
    for attempt in (a for problem in attempts for a in problem):
        pair = attempt.prompt, attempt.ids[attempt.chosen]
        texts[tuple(map(tuple, pair))] = pair
    return _documents(reader, texts.values())


def step_prompt(reader: Reader, plan: Decomposition, solutions: Sequence[str], t: int) -> list[int]:
    """Ids that ask for step t, after the solutions of the steps before it."""
    solved = [Step("", solution, None) for solution in solutions]
    following = plan.steps[t + 1].question if t + 1 < len(plan.steps) else None
    text = qa_prompt(plan.problem, solved, plan.steps[t].question, following, reader.cgd)
    return [*reader.tokenizer.begin, *reader.tokenizer.encode(text)]


def decompose(
    reader: Reader, params: Any, problems: Sequence[str], epsilon: float
) -> list[Decomposition]:
    """The network's own plans, greedy, without solutions; the bare problem where it has none."""
    prompts = [_plan_prompt(reader, problem, epsilon) for problem in problems]
    found = _generate(reader, params, prompts, jax.random.key(0), GREEDY, reader.tokenizer.end_id)
    plans = []
    for problem, (ids, _, _) in zip(problems, found, strict=True):
        marks = (reader.tokenizer.sep_id, reader.tokenizer.end_id)
        text = reader.tokenizer.decode(i for i in ids if i not in marks)
        questions = [line.strip() for line in text.split("\n") if line.strip()][-MOST_STEPS:]
        steps = tuple(Step(question, "", None) for question in questions or [problem])
        plans.append(Decomposition(problem, steps, ""))
    return plans


def answer_plans(
    key: jax.Array,
    reader: Reader,
    params: Any,
    verifier: TextVerifier | None,
    plans: Sequence[Decomposition],
    *,
    choose: Callable = sequential.only,
    k: int = 1,
    sampling: lm.SamplingConfig = SAMPLED,
) -> list[list[Attempt]]:
    """k candidates for each subquestion in turn, and on from the chosen one while it is accepted.

    `choose` is that of `sequential.sample_steps`; what it may compare with are the sub-answers of
    `plans`. A candidate that does not end has reward 0 and is never right. A problem whose prompt
    leaves no room for an answer stops there.
    """
    attempts: list[list[Attempt]] = [[] for _ in plans]
    for t in range(max(len(plan.steps) for plan in plans)):
        live, prompts = [], []
        for p, plan in enumerate(plans):
            if (
                t < len(plan.steps)
                and len(attempts[p]) == t
                and all(a.accepted for a in attempts[p])
            ):
                prompt = step_prompt(reader, plan, [said(reader, a) for a in attempts[p]], t)
                if len(prompt) + reader.step_tokens <= reader.row_tokens:
                    live.append(p)
                    prompts.append(prompt)
        if not live:
            break
        repeated = [prompt for prompt in prompts for _ in range(k)]
        found = _generate(
            reader,
            params,
            repeated,
            jax.random.fold_in(key, t),
            sampling,
            reader.tokenizer.sep_id,
        )
        ids = [row for row, _, _ in found]
        complete = np.array([ended for _, _, ended in found]).reshape(-1, k)
        logp = np.array([value for _, value, _ in found], np.float32).reshape(-1, k)
        reward = np.zeros(complete.shape, np.float32)
        if verifier is not None:
            whole = [prompt + row for prompt, row in zip(repeated, ids, strict=True)]
            reward = np.where(complete, judge_texts(reader, verifier, whole).reshape(-1, k), 0)
        right = complete & np.array(
            [
                same_answer(reader.tokenizer.decode(row), plans[live[i // k]].steps[t])
                for i, row in enumerate(ids)
            ]
        ).reshape(-1, k)
        index, accepted = jax.device_get(choose(*map(jnp.asarray, (logp, reward, right))))
        for i, p in enumerate(live):
            attempts[p].append(
                Attempt(
                    prompts[i],
                    ids[i * k : (i + 1) * k],
                    complete[i],
                    reward[i],
                    int(index[i]),
                    bool(accepted[i]) and bool(complete[i, index[i]]),
                )
            )
    return attempts


def said(reader: Reader, attempt: Attempt) -> str:
    """The text of the chosen candidate, without its mark."""
    return _plain(reader.tokenizer.decode(attempt.ids[attempt.chosen]))


def same_answer(solution: str, step: Step) -> bool:
    """Whether a sub-solution ends in the answer of a step, numbers compared exactly.

    True where the step's answer is not known. A word is compared with the line `#### value`.
    """
    if step.answer is None:
        return True
    known = parse_number(step.answer)
    if known is None:
        return is_correct(_plain(solution), step.answer)
    answer = step_answer(_plain(solution))
    return answer is not None and parse_number(answer) == known


def judge_texts(reader: Reader, verifier: TextVerifier, texts: list[list[int]]) -> np.ndarray:
    """[N] the chance that each text's last step is right."""
    scores = []
    for start in range(0, len(texts), reader.rows):
        part = texts[start : start + reader.rows]
        rows = judged_rows(reader, part + [part[-1]] * (reader.rows - len(part)), 0.0)
        logits = _text_logits(
            verifier, reader.cfg, rows["tokens"], rows["ends"], compute_dtype=compute_dtype()
        )
        scores.append(np.asarray(jax.nn.sigmoid(logits))[: len(part)])
    return np.concatenate(scores)


def judged_rows(reader: Reader, texts: list[list[int]], labels) -> dict[str, np.ndarray]:
    """`tokens` [N, T] padded on the right, `ends` [N] their last positions, `labels` [N]."""
    tokens = np.full((len(texts), reader.row_tokens), reader.tokenizer.pad_id, np.int32)
    for row, ids in enumerate(texts):
        tokens[row, : len(ids)] = ids
    ends = np.array([len(ids) - 1 for ids in texts], np.int32)
    labels = np.broadcast_to(np.asarray(labels, np.float32), len(texts))
    return {"tokens": tokens, "ends": ends, "labels": labels.copy()}


def compute_dtype() -> Any:
    """bfloat16 where there is an accelerator; None, the parameters' own, elsewhere."""
    return None if jax.default_backend() == "cpu" else jnp.bfloat16


def _plain(text: str) -> str:
    return text.replace("<SEP>", "").strip()


def _plan_prompt(reader: Reader, problem: str, epsilon: float) -> list[int]:
    prompt = [*reader.tokenizer.begin, *reader.tokenizer.encode(qd_prompt(problem, epsilon))]
    return prompt[: reader.row_tokens - reader.step_tokens]


def _documents(reader: Reader, pairs) -> list[lm.Document]:
    documents = []
    for prompt, target in pairs:
        if len(prompt) + len(target) <= reader.row_tokens:
            learned = np.array([False] * len(prompt) + [True] * len(target))
            documents.append(lm.Document(np.array([*prompt, *target], np.int32), learned))
    return documents


def _generate(reader: Reader, params, prompts, key, sampling, stop: int):
    """(ids, log-probability, whether they end in `stop`) for each prompt.

    Either mark ends a row, so that one program serves plans and answers.
    """
    found = []
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(prompts)))
    for start in range(0, len(prompts), reader.rows):
        chosen = np.minimum(np.arange(start, start + reader.rows), len(prompts) - 1)
        part = [prompts[i] for i in chosen]
        width = max(map(len, part))
        tokens = np.full((reader.rows, width), reader.tokenizer.pad_id, np.int32)
        mask = np.zeros(tokens.shape, bool)
        for row, prompt in enumerate(part):
            tokens[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = True
        result = jax.device_get(
            lm.generate(
                keys[jnp.asarray(chosen)],
                params,
                reader.cfg,
                tokens,
                attention_mask=mask,
                max_new_tokens=reader.step_tokens,
                sampling=sampling,
                eos_ids=(reader.tokenizer.sep_id, reader.tokenizer.end_id),
                pad_id=reader.tokenizer.pad_id,
                compute_dtype=compute_dtype(),
            )
        )
        for row in range(min(reader.rows, len(prompts) - start)):
            ids = result.tokens[row, : result.lengths[row]].tolist()
            found.append((ids, float(result.logprobs[row].sum()), stop in ids))
    return found
