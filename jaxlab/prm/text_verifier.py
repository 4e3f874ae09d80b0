"""The step verifier on texts: a language model with a linear head, read where a step ends."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlab import lm


class TextVerifier(NamedTuple):
    """lm: parameters of the language model; w: [D]; b: scalar."""

    lm: dict
    w: jax.Array
    b: jax.Array


def init_text_verifier(params: dict, d_model: int) -> TextVerifier:
    """A verifier that starts from a solver's parameters and thinks every step as likely right."""
    return TextVerifier(params, jnp.zeros(d_model), jnp.zeros(()))


def text_logits(
    verifier: TextVerifier, cfg: lm.LMConfig, tokens: jax.Array, ends: jax.Array, **forward_kw
) -> jax.Array:
    """Logits [B] that the steps ending at `ends` [B] of tokens [B, T] are right."""
    hidden = lm.forward(verifier.lm, cfg, tokens, **forward_kw).hidden
    at_end = jnp.take_along_axis(hidden, ends[:, None, None], axis=1)[:, 0]
    return at_end.astype(jnp.float32) @ verifier.w + verifier.b


def text_verifier_loss(
    verifier: TextVerifier, batch: dict, key: jax.Array, *, cfg: lm.LMConfig, **forward_kw
) -> tuple[jax.Array, jax.Array]:
    """(sum of the binary cross-entropies, number of steps); labels [B] in [0, 1]."""
    del key
    z = text_logits(verifier, cfg, batch["tokens"], batch["ends"], **forward_kw)
    y = batch["labels"]
    loss = jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))
    return jnp.sum(loss), jnp.float32(len(y))
