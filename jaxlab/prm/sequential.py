"""Answers to subquestions one after another: candidates, a choice, and on from what was chosen.

Axes: P problems, S steps, k candidates, N tokens of a sub-solution, V vocabulary entries.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab import lm
from jaxlab.lm.cache import split_cache, split_layers
from jaxlab.prm.compact import PAD, SEP, is_answer
from jaxlab.prm.verifier import Verifier, step_logit

Choose = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Rollout(NamedTuple):
    """What was sampled.

    Attributes:
      tokens: [P, S, k, N] int32, SEP included, PAD after it; PAD alone where a problem has no such
        step or no accepted one before it.
      complete: [P, S, k] whether there is a SEP.
      logp: [P, S, k] log-probability under the policy at temperature 1, nats.
      reward: [P, S, k] in [0, 1], by the verifier; 0 without one and where incomplete.
      answer: [P, S, k] int32, the number (or yes or no) that ends the sub-solution; PAD if none
        does.
      index: [P, S] int32, the chosen candidate.
      accepted: [P, S] bool, whether this step and all before it were accepted.
    """

    tokens: jax.Array
    complete: jax.Array
    logp: jax.Array
    reward: jax.Array
    answer: jax.Array
    index: jax.Array  # type: ignore[assignment]  # hides tuple.index
    accepted: jax.Array


def first_accepted(logp: jax.Array, reward: jax.Array, right: jax.Array):
    """The first candidate that the verifier thinks rather right than wrong."""
    good = reward >= 0.5
    return jnp.argmax(good, axis=1), jnp.any(good, axis=1)


def first_right(logp: jax.Array, reward: jax.Array, right: jax.Array):
    """The first candidate with the known sub-answer, else the first."""
    return jnp.argmax(right, axis=1), jnp.any(right, axis=1)


def most_rewarded(logp: jax.Array, reward: jax.Array, right: jax.Array):
    """The highest probability times reward (AutoPRM's reward reranking)."""
    score = logp + jnp.log(jnp.maximum(reward, 1e-30))
    return jnp.argmax(score, axis=1), jnp.ones(len(logp), bool)


def only(logp: jax.Array, reward: jax.Array, right: jax.Array):
    """The first candidate, whatever it is."""
    return jnp.zeros(len(logp), jnp.int32), jnp.ones(len(logp), bool)


CHOICES = (only, first_accepted, first_right, most_rewarded)


def sample_steps(
    row_keys: jax.Array,
    params: dict,
    verifier: Verifier | None,
    cfg: lm.LMConfig,
    prompt: jax.Array,
    forced: jax.Array,
    answers: jax.Array,
    *,
    choose: Choose,
    k: int,
    max_new_tokens: int,
    sampling: lm.SamplingConfig,
) -> Rollout:
    """Samples k sub-solutions for each subquestion, chooses one, appends it, and goes on.

    Nothing is prefilled twice: the prompt enters the cache once, a step's given tokens are
    appended before the rows are tiled, and a choice is a gather of cache rows.

    Args:
      row_keys: [P] typed keys.
      params, verifier, cfg: policy; its judge, of the same configuration, or None.
      prompt: [P, T] int32, left-padded with PAD.
      forced: [P, S, F] int32, what stands before each solution; all PAD where a problem has
        fewer steps.
      answers: [P, S] int32, the answers that `choose` may compare with (its `right`).
      choose: (logp, reward, right), each [P, k], to (index [P], accepted [P]); static.
      k, max_new_tokens, sampling: static.
    """
    num_problems = prompt.shape[0]
    slots = prompt.shape[1] + forced.shape[1] * (forced.shape[2] + max_new_tokens)
    models = (params,) if verifier is None else (params, verifier.lm)
    if jax.default_backend() == "cpu":
        models = tuple(split_layers(model) for model in models)
    feed = functools.partial(_feed, models, cfg)
    caches = tuple(lm.init_cache(cfg, num_problems, slots) for _ in models)
    _, caches = feed(prompt, caches, prompt != PAD)
    if jax.default_backend() == "cpu":
        caches = tuple(split_cache(cache) for cache in caches)

    def step(carry, inputs):
        caches, alive = carry
        number, given, answer = inputs
        exists = given[:, -1] != PAD
        logits, caches = feed(given, caches, given != PAD)
        keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, number)
        drawn, caches = _draw_candidates(
            keys,
            feed,
            caches,
            logits,
            exists & alive,
            k=k,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
        )
        reward = jnp.zeros((num_problems, k))
        complete = jnp.any(drawn.tokens == SEP, axis=-1)
        if verifier is not None:
            scores = jax.nn.sigmoid(step_logit(verifier, drawn.end_logits, drawn.likelihood))
            reward = jnp.where(complete, scores.reshape(num_problems, k), 0)
        ending = final_answer(drawn.tokens)
        index, accepted = choose(drawn.logp, reward, complete & (ending == answer[:, None]))
        alive = alive & accepted & exists
        kept = jnp.arange(num_problems) * k + index
        caches = tuple(lm.take_rows(cache, kept) for cache in caches)
        return (caches, alive), Rollout(
            drawn.tokens, complete, drawn.logp, reward, ending, index.astype(jnp.int32), alive
        )

    inputs = (jnp.arange(forced.shape[1]), forced.swapaxes(0, 1), answers.T)
    alive = jnp.ones(num_problems, bool)
    _, rollout = jax.lax.scan(step, (caches, alive), inputs)
    return jax.tree.map(lambda x: x.swapaxes(0, 1), rollout)


class _Drawn(NamedTuple):
    """Candidates of one step: `tokens` [P, k, N] and their `logp` [P, k] under the policy; the last
    model's logits [P k, V] at SEP, and the log-likelihood [P k] that it gives them."""

    tokens: jax.Array
    logp: jax.Array
    end_logits: jax.Array
    likelihood: jax.Array


def _draw_candidates(
    keys: jax.Array,
    feed: Callable,
    caches: tuple,
    logits: tuple[jax.Array, ...],
    live: jax.Array,
    *,
    k: int,
    max_new_tokens: int,
    sampling: lm.SamplingConfig,
) -> tuple[_Drawn, tuple]:
    """k sub-solutions after what `caches` hold of each problem, whose next `logits` are [P, V].

    live: [P], the problems that get any; those of the others are PAD. The caches that come back
    have a row for each candidate, those of a problem together.
    """
    num_problems = len(live)
    tiles = jnp.repeat(jnp.arange(num_problems), k)
    caches = tuple(lm.take_rows(cache, tiles) for cache in caches)
    logits = tuple(x[tiles] for x in logits)
    rows, ended = num_problems * k, ~live[tiles]
    start = (caches, logits, jnp.zeros(rows), ended, jnp.zeros_like(logits[-1]))
    result, _, (caches, _, likelihood, _, end_logits) = lm.decode(
        jax.vmap(lambda key: jax.random.split(key, k))(keys).reshape(rows),
        functools.partial(_next_token, feed),
        logits[0],
        start,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        eos_ids=(SEP,),
        pad_id=PAD,
        ended=ended,
    )
    tokens = result.tokens.reshape(num_problems, k, -1)
    logp = jnp.sum(result.logprobs, axis=1).reshape(num_problems, k)
    return _Drawn(tokens, logp, end_logits, likelihood), caches


def _next_token(feed: Callable, tokens: jax.Array, carry: tuple):
    """Feeds both models one token a row; what the last of them makes of a row stays at its SEP."""
    caches, logits, likelihood, ended, end_logits = carry
    live = ~ended
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits[-1]), tokens[:, None], 1)[:, 0]
    likelihood = likelihood + jnp.where(live, chosen, 0)
    logits, caches = feed(tokens[:, None], caches, live[:, None])
    ends = live & (tokens == SEP)
    end_logits = jnp.where(ends[:, None], logits[-1], end_logits)
    return logits[0], (caches, logits, likelihood, ended | ends, end_logits)


def _feed(models: tuple, cfg: lm.LMConfig, tokens: jax.Array, caches: tuple, mask: jax.Array):
    """(next logits, caches) of each model after tokens [B, T]."""
    fed = [
        lm.extend(model, cfg, tokens, cache, attention_mask=mask, last_only=True)
        for model, cache in zip(models, caches, strict=True)
    ]
    return tuple(logits for logits, _ in fed), tuple(cache for _, cache in fed)


def final_answer(tokens: jax.Array) -> jax.Array:
    """[...] the number, yes or no just before SEP in tokens [..., N]; PAD if there is none."""
    end = jnp.argmax(tokens == SEP, axis=-1, keepdims=True)
    before = jnp.take_along_axis(tokens, jnp.maximum(end - 1, 0), axis=-1)[..., 0]
    found = jnp.any(tokens == SEP, axis=-1) & is_answer(before)
    return jnp.where(found, before, PAD).astype(jnp.int32)
