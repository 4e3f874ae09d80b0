"""Two-hop prompts put to language models: probabilities, attention between roles, fine-tuning.

Axes: N prompts, T tokens, K chains.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlab import lm, parallel
from jaxlab.twohop.prompts import Prompt, PromptScores, TokenPrompt, score_next_token

TEXT_ROLES = ("src", "brg1", "brg2", "end", "other src", "other brg1", "other brg2", "other end")
_LENGTH_STEP = 16  # prompts are padded to a multiple, so that few lengths are compiled


class EncodedPrompts(NamedTuple):
    """Prompts with the same number of chains, as arrays.

    Attributes:
      tokens: `[N, T]` int32, padded on the left.
      mask: `[N, T]` bool, false at the padding.
      target_ids: `[N]` first token of the right answer.
      other_ids: `[N, K-1]` first tokens of the other ends.
      roles: `[N, 8, T]` bool, the tokens of each of `TEXT_ROLES`; None for prompts of a file, which
        does not tell where its entities stand.
    """

    tokens: np.ndarray
    mask: np.ndarray
    target_ids: np.ndarray
    other_ids: np.ndarray
    roles: np.ndarray | None


def encode_prompts(
    tokenizer: lm.Tokenizer, prompts: Sequence[Prompt | TokenPrompt]
) -> EncodedPrompts:
    """Tokens of prompts and of the first token of each possible answer.

    The first token of an answer is the one that follows the question's tokens in question and
    answer together. A prompt file's own ids are kept, once they are seen to fit.

    Args:
      tokenizer: the model's.
      prompts: with one number of chains.

    Raises:
      ValueError: no prompts, different numbers of chains, or the ids of another tokenizer.
    """
    if not prompts:
        raise ValueError("there are no prompts; ask for at least one")
    counts = {len(_others(prompt)) for prompt in prompts}
    if len(counts) > 1:
        raise ValueError(f"prompts must have one number of chains, got {sorted(counts)} others")
    ids = [lm.encode_prompt(tokenizer, prompt.question) for prompt in prompts]
    length = _rounded(map(len, ids))
    tokens = np.zeros((len(prompts), length), np.int32)
    mask = np.zeros((len(prompts), length), bool)
    for row, sequence in enumerate(ids):
        tokens[row, length - len(sequence) :] = sequence
        mask[row, length - len(sequence) :] = True
    target = np.array(
        [_first_id(tokenizer, p.question, p.answer, x) for p, x in zip(prompts, ids, strict=True)]
    )
    made = [prompt for prompt in prompts if isinstance(prompt, Prompt)]
    read = [prompt for prompt in prompts if isinstance(prompt, TokenPrompt)]
    if read:
        given = np.array([prompt.target_id for prompt in read])
        if (given != target).mean() > 0.5:
            raise ValueError(
                f"the prompt file's ids fit {(given == target).mean():.0%} of the answers: they "
                "belong to another tokenizer; use the file made for this model"
            )
        others = np.array([prompt.other_ids for prompt in read], np.int32)
        return EncodedPrompts(tokens, mask, given, others.reshape(len(prompts), -1), None)
    others = np.array(
        [
            [_first_id(tokenizer, prompt.question, answer, x) for answer in prompt.other_answers]
            for prompt, x in zip(made, ids, strict=True)
        ],
        np.int32,
    )
    roles = np.stack([_role_tokens(tokenizer, prompt, length) for prompt in made])
    return EncodedPrompts(tokens, mask, target, others.reshape(len(prompts), -1), roles)


def count_collisions(prompts: EncodedPrompts) -> int:
    """Prompts of which two ends begin with the same token, so that it does not tell them apart."""
    ends = np.sort(np.column_stack([prompts.target_ids, prompts.other_ids]), axis=1)
    return int((np.diff(ends, axis=1) == 0).any(axis=1).sum())


def next_token_logits(
    params: dict,
    cfg: lm.LMConfig,
    prompts: EncodedPrompts,
    *,
    lora: lm.Lora | None = None,
    batch_size: int = 16,
) -> np.ndarray:
    """Logits `[N, V]` at the end of each prompt, `batch_size` prompts at a time.

    Raises:
      ValueError: ids, or prompts of a length, that the model does not have.
    """
    lm.check_ids(cfg, prompts.tokens, prompts.mask)
    rows = [
        _last_logits(params, cfg, prompts.tokens[part], prompts.mask[part], lora)
        for part in _parts(prompts, batch_size)
    ]
    return np.concatenate(jax.device_get(rows))[: len(prompts.tokens)]


def score_prompts(
    params: dict,
    cfg: lm.LMConfig,
    prompts: EncodedPrompts,
    *,
    lora: lm.Lora | None = None,
    batch_size: int = 16,
) -> PromptScores:
    """`score_next_token` of a language model's answers."""
    logits = next_token_logits(params, cfg, prompts, lora=lora, batch_size=batch_size)
    return score_next_token(logits, prompts.target_ids, prompts.other_ids)


def query_attention(
    params: dict,
    cfg: lm.LMConfig,
    prompts: EncodedPrompts,
    *,
    lora: lm.Lora | None = None,
    batch_size: int = 4,
) -> np.ndarray:
    """Mean attention `[L, H, 8]` of the last position to all tokens of each of `TEXT_ROLES`.

    Roles of other chains are totals over these chains.

    Raises:
      ValueError: prompts of a file, whose roles are not known, or as in `next_token_logits`.
    """
    if prompts.roles is None:
        raise ValueError("the roles of a prompt file's tokens are not known; use make_prompts")
    lm.check_ids(cfg, prompts.tokens, prompts.mask)
    rows = [
        _last_attention(
            params, cfg, prompts.tokens[part], prompts.mask[part], prompts.roles[part], lora
        )
        for part in _parts(prompts, batch_size)
    ]
    return np.concatenate(jax.device_get(rows))[: len(prompts.tokens)].mean(0)


def init_finetuning(
    key: jax.Array,
    params: dict,
    *,
    steps: int,
    rank: int = 16,
    alpha: float = 32.0,
    lr: float = 2e-4,
) -> parallel.TrainState:
    """The start of `finetune`: an adapter of the attention's four weights that changes nothing.

    Args:
      key: of the adapter.
      params: the language model's.
      steps, lr: as for `finetune`.
      rank, alpha: of the adapter; the defaults are the paper's.
    """
    adapter = lm.init_lora(key, params, rank=rank, alpha=alpha)
    return parallel.init_train_state(adapter, _adapter_optimizer(steps, lr))


def finetune(
    state: parallel.TrainState,
    params: dict,
    cfg: lm.LMConfig,
    batch_at: Callable[[int], dict],
    *,
    steps: int,
    lr: float = 2e-4,
    on_step: Callable[[parallel.TrainState, dict], None] | None = None,
) -> lm.Lora:
    """Trains an adapter on answers by AdamW with 3% warm-up and a cosine to zero.

    The paper's recipe but for its dropout on the adapter's input.

    Args:
      state: from `init_finetuning`, or what an earlier call handed to `on_step`; donated.
      params, cfg: the language model, which stays as it is.
      batch_at: step -> rows of `answer_rows`.
      steps: in all, those already taken included.
      lr: peak rate.
      on_step: called after every step with the state, which the next step takes over, and metrics.
    """
    tx = _adapter_optimizer(steps, lr)

    # The model is an argument: closed over, it would become a constant of the program.
    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, params, batch):
        def loss(adapter, batch, _):
            return lm.next_token_loss(params, cfg, batch, lora=adapter)

        return parallel.make_update(loss, tx)(state, batch, None)

    for number in range(int(state.step), steps):
        state, metrics = step(state, params, batch_at(number))
        if on_step is not None:
            on_step(state, metrics)
    return state.params


def answer_rows(
    tokenizer: lm.Tokenizer, prompts: Sequence[Prompt | TokenPrompt]
) -> dict[str, np.ndarray]:
    """Questions with their answers, of which only the answers' tokens are learned.

    Returns:
      `tokens` `[N, T]` int32, padded on the right, with `attention_mask` and `loss_mask`.
    """
    documents = []
    for prompt in prompts:
        ids = lm.encode_prompt(tokenizer, prompt.question + prompt.answer)
        start = _common_length(ids, lm.encode_prompt(tokenizer, prompt.question))
        documents.append(lm.Document(np.array(ids, np.int32), np.arange(len(ids)) >= start))
    return lm.pad_documents(documents, _rounded(len(document.ids) for document in documents))


def _adapter_optimizer(steps: int, lr: float) -> optax.GradientTransformation:
    # Not the language model's optimizer, which does not decay adapters.
    schedule = lm.make_schedule(
        lm.OptimizerConfig(
            peak_lr=lr, warmup_steps=round(0.03 * steps), total_steps=steps, end_lr_ratio=0.0
        )
    )
    adamw = optax.adamw(schedule, b2=0.999, weight_decay=0.01)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def _rounded(lengths) -> int:
    return -(-max(lengths) // _LENGTH_STEP) * _LENGTH_STEP


@functools.partial(jax.jit, static_argnames="cfg")
def _last_logits(params, cfg, tokens, mask, lora):
    return lm.forward(params, cfg, tokens, attention_mask=mask, lora=lora).logits[:, -1]


@functools.partial(jax.jit, static_argnames="cfg")
def _last_attention(params, cfg, tokens, mask, roles, lora):
    out = lm.forward(params, cfg, tokens, attention_mask=mask, lora=lora, output_attentions=True)
    return jnp.einsum("lbht,brt->blhr", out.attentions[:, :, :, -1].astype(jnp.float32), roles)


def _parts(prompts: EncodedPrompts, batch_size: int):
    """Row numbers of each batch; the last is filled up with row 0, to compile one shape."""
    count = len(prompts.tokens)
    rows = np.arange(-(-count // batch_size) * batch_size)
    return np.where(rows < count, rows, 0).reshape(-1, batch_size)


def _others(prompt: Prompt | TokenPrompt) -> tuple:
    return prompt.other_answers if isinstance(prompt, Prompt) else prompt.other_ids


def _first_id(tokenizer, question: str, answer: str, question_ids: list[int]) -> int:
    ids = lm.encode_prompt(tokenizer, question + answer)
    return ids[_common_length(ids, question_ids)]


def _common_length(ids: list[int], other: list[int]) -> int:
    same = 0
    while same < min(len(ids) - 1, len(other)) and ids[same] == other[same]:
        same += 1
    return same


def _role_tokens(tokenizer, prompt: Prompt, length: int) -> np.ndarray:
    """`[8, length]` bool: tokens that overlap an entity in each role, from the right end."""
    ids, offsets = tokenizer.encode_with_offsets(prompt.question)
    table = np.zeros((len(TEXT_ROLES), length), bool)
    for number, (source, bridge, end) in enumerate(prompt.chains):
        first, second = _occurrences(bridge, prompt.question)[:2]
        spans = (
            _occurrences(source, prompt.question)[0],
            first,
            second,
            _occurrences(end, prompt.question)[0],
        )
        base = 0 if number == prompt.target else 4
        for role, (start, stop) in enumerate(spans):
            for place, (left, right) in enumerate(offsets):
                # Some tokenizers count the space before a word to its token.
                if max(left, start) < min(right, stop):
                    table[base + role, length - len(ids) + place] = True
    return table


def _occurrences(word: str, text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(rf"\b{re.escape(word)}\b", text)]
