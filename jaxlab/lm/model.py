"""The forward pass of the decoder: one `lax.scan` over stacked layers."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.checks import check_choice
from jaxlab.lm.config import LMConfig
from jaxlab.lm.layers import SAVED, block, embed, head_logits
from jaxlab.lm.lora import Lora
from jaxlab.lm.masks import causal_visibility, check_positions, check_tokens, shared_window
from jaxlab.lm.norms import apply_norm
from jaxlab.lm.rope import rope_tables
from jaxlab.lm.token_shift import previous_tokens

_POLICIES = {
    # Even "none" makes the elementwise parts and the attention weights anew, which is cheaper
    # than a way through memory: 0.78x the time for a training step on a CPU.
    "none": jax.checkpoint_policies.save_only_these_names(*SAVED),
    "full": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class LMOutput(NamedTuple):
    """What `forward` returns.

    logits: [B, T, V] float32, None for a sequence classifier.
    hidden: [B, T, D] after the final norm.
    hidden_states: [L + 1, B, T, D] or None; entry i is the input of block i, entry L the output
        of the last block before the final norm.
    attentions: [L, B, H, T, T] or None, attention probabilities.
    """

    logits: jax.Array | Any
    hidden: jax.Array
    hidden_states: jax.Array | Any = None
    attentions: jax.Array | Any = None


def forward(
    params: dict,
    cfg: LMConfig,
    tokens: ArrayLike,
    *,
    attention_mask: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    segment_ids: ArrayLike | None = None,
    lora: Lora | None = None,
    compute_dtype=None,
    remat: str = "none",
    hook: Callable | None = None,
    output_hidden_states: bool = False,
    output_attentions: bool = False,
    unroll: int = 1,
) -> LMOutput:
    """Logits and hidden states of token ids [B, T].

    attention_mask: [B, T], 1 for tokens and 0 for padding, which may stand anywhere; outputs at
    pads are finite and meaningless. positions: [B, T], counted from the mask unless given.
    segment_ids: [B, T]; tokens attend within their segment only and positions start anew there.
    lora: an adapter applied beside the weights. compute_dtype: dtype of activations and of the
    weights inside the blocks; None takes that of the embedding. Norm statistics, softmax and
    logits are float32 in any case. remat: "none", "full" (recompute whole blocks in the backward
    pass) or "dots" (keep their matrix products). hook(layer, x [B, T, D]) -> x acts on the
    residual stream after each block; layer is a traced int32. unroll: blocks per scan step.
    Forward-mode derivatives (`jax.jvp`) need output_attentions=True.

    Raises ValueError for tokens that are not integers [B, T], arrays of another shape, an
    unknown remat, or positions past a learned table. Ids outside [0, V), and traced positions,
    are clamped inside a compiled program: `check_ids` refuses both where data enters.
    """
    check_choice("remat", remat, _POLICIES)
    tokens, arrays = check_tokens(
        tokens, attention_mask=attention_mask, positions=positions, segment_ids=segment_ids
    )
    check_positions(cfg, tokens, arrays)
    # A hook may close over values of an outer trace, which a jit cache must not keep.
    run = _jit_forward if hook is None else functools.partial(_forward, hook=hook)
    return run(
        params,
        cfg,
        tokens,
        arrays,
        lora,
        compute_dtype=None if compute_dtype is None else jnp.dtype(compute_dtype),
        remat=remat,
        output_hidden_states=output_hidden_states,
        output_attentions=output_attentions,
        unroll=unroll,
    )


def make_apply_fn(cfg: LMConfig, **forward_kw) -> Callable:
    """apply_fn(params, tokens [B, T], **more) -> logits [B, T, V], `forward` with `forward_kw`."""

    def apply_fn(params, tokens, **more):
        return forward(params, cfg, tokens, **(forward_kw | more)).logits

    return apply_fn


def _forward(
    params,
    cfg,
    tokens,
    arrays,
    lora,
    *,
    compute_dtype,
    remat,
    output_hidden_states,
    output_attentions,
    unroll,
    hook=None,
):
    sight = causal_visibility(tokens.shape, **arrays)
    dtype = compute_dtype or params["embed"]["w"].dtype
    previous = None
    if cfg.token_shift:
        nothing = jnp.full((tokens.shape[0], cfg.token_shift), -1, jnp.int32)
        previous, _ = previous_tokens(
            tokens, arrays["attention_mask"], arrays["segment_ids"], nothing
        )
    x = embed(params, cfg, tokens, sight.query_positions, previous, dtype)
    rope = rope_tables(cfg, sight.query_positions) if cfg.position == "rope" else None
    window = shared_window(cfg)
    visible = None if window is None else sight.within(window)

    def body(x, inputs):
        layer, adapters, number, window = inputs
        y, probs, _ = block(
            layer,
            cfg,
            x,
            rope,
            sight.within(window) if visible is None else visible,
            adapters=adapters,
            scale=1.0 if lora is None else lora.scale,
            with_probs=output_attentions,
        )
        if hook is not None:
            y = hook(number, y)
        return y, (x if output_hidden_states else None, probs if output_attentions else None)

    body = jax.checkpoint(body, policy=_POLICIES[remat])
    inputs = (
        params["layers"],
        None if lora is None else lora.layers,
        jnp.arange(cfg.n_layers, dtype=jnp.int32),
        jnp.asarray(cfg.windows, jnp.int32) if visible is None else None,
    )
    x, (states, attentions) = jax.lax.scan(body, x, inputs, unroll=unroll)
    hidden = apply_norm(x, params["final_norm"], cfg.norm_eps)
    if output_hidden_states:
        states = jnp.concatenate([states, x[None]])
    logits = None if cfg.num_labels else head_logits(params, cfg, hidden)
    return LMOutput(logits, hidden, states, attentions)


_jit_forward = jax.jit(
    _forward,
    static_argnames=(
        "cfg",
        "compute_dtype",
        "remat",
        "output_hidden_states",
        "output_attentions",
        "unroll",
    ),
    inline=True,
)
