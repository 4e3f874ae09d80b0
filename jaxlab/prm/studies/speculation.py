"""Best-of-N that a search outside this package stops early, scored by the step verifier (claim A7).

A search draws rows token by token and drops some of them part-way. Here a row is a whole trace: the
policy puts in the given tokens, each next subquestion after the sub-solution before it, and
samples the others; BOS follows the last sub-solution and ends the row.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.prm import compact
from jaxlab.prm.compact import BOS, FORCED, MID, MORE, PAD, SEP, Plan
from jaxlab.prm.process_reward import as_reward_fn
from jaxlab.prm.studies.config import TOY, AutoPRMConfig
from jaxlab.prm.studies.problems import PROMPT_TOKENS, most_steps, plan_arrays
from jaxlab.prm.verifier import Verifier

# (multiples of k rows, tokens of a row, about one or two steps, before half of the rows go).
EARLY = ((1, 13), (1, 26), (2, 13))
_SAMPLED = lm.SamplingConfig()


class Found(NamedTuple):
    """What a search returns: the best row's tokens [N], padded, and how many it drew in all."""

    tokens: np.ndarray
    tokens_generated: int


class Search(Protocol):
    """A search over rows of one prompt that drops half of them whenever memory is full.

    policy: (start, extend, gather), as `jaxlab.align.Policy`; reward: (prompt, responses, lengths)
    to scores, higher is better, of partial and of whole responses.
    """

    def __call__(
        self,
        key: jax.Array,
        policy: tuple[Callable, Callable, Callable],
        reward: Callable,
        prompt: np.ndarray,
        *,
        rows: int,
        capacity_tokens: int,
        max_new_tokens: int,
        end_id: int,
    ) -> Found: ...


class _State(NamedTuple):
    """row_keys [R]; time: tokens so far; step, place [R]: in what is given, F where it samples."""

    row_keys: jax.Array
    time: jax.Array
    logits: jax.Array
    cache: lm.KVCache
    step: jax.Array
    place: jax.Array


def measure(
    config: AutoPRMConfig,
    search: Search,
    params: dict,
    verifier: Verifier,
    plans: list[Plan],
    key: jax.Array,
) -> dict[str, np.ndarray]:
    """Final accuracy and tokens of best-of-k, whole and stopped early as `EARLY` says.

    Returns:
      `rows`, `cut` [C]: rows at the start; tokens of each before the first decision, at first so
      many that none is made; `right` [C, P]: whether the best row's answer is right; `tokens`
      [C, P]: drawn for it, given ones included.
    """
    cfg = config.network()
    steps, width = most_steps(TOY, config.epsilon)
    longest = steps * (FORCED + width) + 1
    settings = [(times * config.k, cut) for times, cut in ((1, longest), *EARLY)]
    most = max(rows for rows, _ in settings)
    reward = trace_reward(verifier, cfg, most, PROMPT_TOKENS + longest, steps)
    arrays = plan_arrays(plans, steps, True)
    right, tokens = np.zeros((2, len(settings), len(plans)), np.int64)
    for p, plan in enumerate(plans):
        policy = trace_policy(params, cfg, plan, most, steps, longest)
        for c, (rows, cut) in enumerate(settings):
            found = search(
                jax.random.fold_in(key, p),
                policy,
                reward,
                arrays["prompt"][p],
                rows=rows,
                capacity_tokens=rows * cut,
                max_new_tokens=longest,
                end_id=BOS,
            )
            right[c, p] = trace_answer(found.tokens) == plan.answers[-1]
            tokens[c, p] = found.tokens_generated
    rows, cut = np.array(settings).T
    return {"rows": rows, "cut": cut, "right": right.astype(bool), "tokens": tokens}


def trace_policy(
    params: dict, cfg: lm.LMConfig, plan: Plan, most_rows: int, num_steps: int, longest: int
) -> tuple[Callable, Callable, Callable]:
    """(start, extend, gather) of one problem's traces of at most `longest` tokens.

    All calls run `most_rows` rows, those beyond a search's own being copies that it does not see,
    so that they share their programs.
    """
    given = np.full((num_steps + 1, FORCED), PAD, np.int32)
    forced = compact.forced_tokens(plan, True)
    given[: len(forced)] = forced
    given[len(forced), 0] = BOS

    def start(row_keys, prompt, max_len):
        del max_len
        rows = len(row_keys)
        keys = row_keys[np.resize(np.arange(rows), most_rows)]
        return _start(params, cfg, keys, jnp.asarray(prompt), len(prompt) + longest), rows

    def extend(state, n_tokens):
        state, rows = state
        state, drawn, logp = _extend(params, cfg, given, state, n_tokens, longest)
        return (state, rows), np.asarray(drawn)[:rows, :n_tokens], logp[:rows, :n_tokens]

    def gather(state, rows, max_len):
        del max_len
        state, _ = state
        places = np.resize(np.asarray(rows), most_rows)
        return _gather(state, places), len(rows)

    return start, extend, gather


@functools.partial(jax.jit, static_argnames=("cfg", "slots"))
def _start(params, cfg, row_keys, prompt, slots) -> _State:
    cache = lm.init_cache(cfg, 1, slots)
    logits, cache = lm.extend(
        params, cfg, prompt[None], cache, attention_mask=prompt[None] != PAD, last_only=True
    )
    rows = jnp.zeros(row_keys.shape[0], jnp.int32)
    return _State(row_keys, jnp.int32(0), logits[rows], lm.take_rows(cache, rows), rows, rows)


@functools.partial(jax.jit, static_argnames=("cfg", "longest"))
def _extend(params, cfg, given, state: _State, n_tokens, longest):
    rows = state.step.shape[0]

    def body(carry):
        state, drawn, logp, t = carry
        keys = jax.vmap(jax.random.fold_in, (0, None))(state.row_keys, state.time)
        sampled, _ = lm.sample(keys, state.logits, _SAMPLED)
        samples = state.place == FORCED
        token = jnp.where(samples, sampled, given[state.step, jnp.minimum(state.place, FORCED - 1)])
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(state.logits), token[:, None], 1)[:, 0]
        done = samples & (token == SEP)
        last = given.shape[0] - 1
        logits, cache = lm.extend(params, cfg, token[:, None], state.cache, last_only=True)
        state = _State(
            state.row_keys,
            state.time + 1,
            logits,
            cache,
            jnp.minimum(state.step + done, last),
            jnp.where(done, 0, jnp.minimum(state.place + 1, FORCED)),
        )
        return state, drawn.at[:, t].set(token), logp.at[:, t].set(log_prob), t + 1

    start = (state, jnp.zeros((rows, longest), jnp.int32), jnp.zeros((rows, longest)), 0)
    state, drawn, logp, _ = jax.lax.while_loop(lambda carry: carry[3] < n_tokens, body, start)
    return state, drawn, logp


@jax.jit
def _gather(state: _State, rows) -> _State:
    return state._replace(
        row_keys=state.row_keys[rows],
        logits=state.logits[rows],
        cache=lm.take_rows(state.cache, rows),
        step=state.step[rows],
        place=state.place[rows],
    )


def trace_reward(
    verifier: Verifier, cfg: lm.LMConfig, rows: int, length: int, max_steps: int
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """The verifier, product over a trace's steps, as a search's reward; one program for all calls.

    rows, length: that are scored at a time, and their tokens, prompt included; others are padded.
    """

    def reward(prompt, responses, lengths):
        tokens = np.full((rows, length), PAD, np.int32)
        tokens[: len(responses), : len(prompt)] = prompt
        tokens[: len(responses), len(prompt) : len(prompt) + responses.shape[1]] = responses
        ends = np.zeros(rows, np.int32)
        ends[: len(lengths)] = len(prompt) + lengths
        return np.asarray(_score(verifier, cfg, tokens, ends, max_steps))[: len(responses)]

    return reward


@functools.partial(jax.jit, static_argnames=("cfg", "max_steps"))
def _score(verifier, cfg, tokens, lengths, max_steps):
    logit = functools.partial(step_logits, verifier, cfg)
    return as_reward_fn(logit, SEP, max_steps, how="prod")(tokens, lengths)


def step_logits(verifier: Verifier, cfg: lm.LMConfig, tokens: jax.Array) -> jax.Array:
    """[B, T] logits that the sub-solutions of traces are right, meant where they end.

    Padding stands on the left of a trace, or beyond what is read of it.
    """
    mask = jnp.cumsum(tokens != PAD, axis=1) > 0
    logits = lm.forward(verifier.lm, cfg, tokens, attention_mask=mask).logits
    log_probs = jnp.pad(lm.token_log_probs(logits, tokens), ((0, 0), (1, 0)))
    so_far = jnp.cumsum(log_probs, axis=1)
    opens = (tokens == MID) | (tokens == MORE)
    begun = jnp.where(opens, jnp.arange(tokens.shape[1]), 0)
    before = jnp.take_along_axis(so_far, jax.lax.cummax(begun, axis=1), axis=1)
    return logits @ verifier.u + so_far - before + verifier.b


def trace_answer(tokens: Any) -> int:
    """The number that ends the last sub-solution of a finished trace; PAD without one."""
    ids = np.asarray(tokens).tolist()
    if BOS not in ids:
        return PAD
    end = ids.index(BOS)
    answered = end >= 2 and ids[end - 1] == SEP and compact.is_answer(np.array(ids[end - 2]))
    return ids[end - 2] if answered else PAD
