"""Low-rank adapters: y += (alpha / rank) (x A) B (LoRA, Hu et al., ICLR 2022)."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxlab.arrays import as_wide_float

ATTENTION_TARGETS = ("wq", "wk", "wv", "wo")
MLP_TARGETS = ("w_up", "w_gate", "w_down")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lora:
    """An adapter, a pytree of its matrices.

    layers: {"attn" | "mlp": {weight name: {"a" [L, in, r], "b" [L, r, out]}}}.
    scale: alpha / rank, static.
    """

    layers: dict
    scale: float = dataclasses.field(metadata={"static": True})


def init_lora(
    key: jax.Array, params: dict, *, rank: int, alpha: float, targets=ATTENTION_TARGETS
) -> Lora:
    """An adapter that changes nothing yet: A ~ normal(0, 1 / in), B = 0, scale alpha / rank.

    Its matrices are float32 whatever the weights are, since Adam's moments of half-precision
    parameters round to nothing; `forward` casts them to its compute dtype.

    `targets` are weight names of params["layers"]: wq, wk, wv, wo, w_up, w_gate, w_down. Raises
    ValueError for a target the model does not have or a rank outside [1, min(in, out)].
    """
    layers = {}
    for number, target in enumerate(targets):
        group = "attn" if target in ATTENTION_TARGETS else "mlp"
        known = [
            name
            for part, names in (("attn", ATTENTION_TARGETS), ("mlp", MLP_TARGETS))
            for name in names
            if name in params["layers"][part]
        ]
        if target not in known:
            raise ValueError(f"LoRA target {target!r} is not one of {', '.join(known)}")
        weight = params["layers"][group][target]
        n_layers, n_in, n_out = weight.shape
        if not 1 <= rank <= min(n_in, n_out):
            raise ValueError(
                f"LoRA rank must be from 1 to min(in, out) = {min(n_in, n_out)} of {target}, "
                f"got {rank}"
            )
        noise = jax.random.normal(
            jax.random.fold_in(key, number), (n_layers, n_in, rank), jnp.float32
        )
        layers.setdefault(group, {})[target] = {
            "a": noise / math.sqrt(n_in),
            "b": jnp.zeros((n_layers, rank, n_out), jnp.float32),
        }
    return Lora(layers, float(alpha) / rank)


def merge_lora(params: dict, lora: Lora) -> dict:
    """Parameters with W + scale A B in place of every adapted W; the rest is shared."""
    layers = {name: dict(group) for name, group in params["layers"].items()}
    for group, adapters in lora.layers.items():
        for name, adapter in adapters.items():
            weight = layers[group][name]
            # Full precision: the default of an accelerator would round the merged weights.
            wide = as_wide_float(weight)
            update = jnp.matmul(
                adapter["a"].astype(wide.dtype),
                adapter["b"].astype(wide.dtype),
                precision=jax.lax.Precision.HIGHEST,
            )
            merged = wide + lora.scale * update
            layers[group][name] = merged.astype(weight.dtype)
    return params | {"layers": layers}
