"""What the language model must hold on any machine, measured on tiny random models.

Each `measure_*` returns plain numbers. The models' weights are perturbed, so that norms are not 1
and biases not 0: on freshly initialised models half of the possible mistakes are invisible.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlab.lm.cache import extend, init_cache
from jaxlab.lm.config import LMConfig
from jaxlab.lm.generation import generate
from jaxlab.lm.losses import next_token_loss
from jaxlab.lm.model import forward
from jaxlab.lm.optimizer import OptimizerConfig, make_optimizer
from jaxlab.lm.params import init_params
from jaxlab.lm.sampling import SamplingConfig
from jaxlab.lm.sharding import param_specs
from jaxlab.lm.training import (
    init_train_state,
    make_train_step,
    restore_state,
    save_state,
    train,
)

_SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "d_model": 48,
    "n_layers": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 12,
    "d_ff": 96,
    "max_seq_len": 64,
}
LLAMA = LMConfig(**_SIZES, windows=(0, 5, 0))
GPT2 = LMConfig(
    **_SIZES | {"n_kv_heads": 4},
    norm="layer",
    position="learned",
    qkv_bias=True,
    out_bias=True,
    mlp_bias=True,
    activation="gelu_tanh",
    gated=False,
    tie_embeddings=True,
    model_type="gpt2",
)
GREEDY = SamplingConfig(temperature=0)
# At Adam's usual 1e-8 an entry whose gradient is only rounding moves by a whole learning rate.
_TX = make_optimizer(OptimizerConfig(peak_lr=1e-2, eps=1e-5, schedule="constant"))


@functools.partial(jax.jit, static_argnames="cfg")
def perturbed_params(key: jax.Array, cfg: LMConfig) -> dict:
    """Initial parameters plus normal noise of 0.1 on every entry."""
    params = init_params(key, cfg)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
    noisy = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def measure_cache(key: jax.Array) -> dict[str, float]:
    """L2: feeding 7, 1, 7 and 1 tokens through the cache against one forward pass, and padding.

    Returns:
      `logit_error`, the largest absolute difference over two architectures, and
      `greedy_agreement`, the share of greedy tokens equal for left, right and no padding.
    """
    tokens = np.asarray(jax.random.randint(key, (3, 16), 0, 96))
    mask = np.ones((3, 16), bool)
    mask[1, :4] = mask[2, 12:] = False
    errors, agreements = [], []
    for cfg in (LLAMA, GPT2):
        params = perturbed_params(key, cfg)
        full = forward(params, cfg, tokens, attention_mask=mask).logits
        cache, parts = init_cache(cfg, 3, 20), []
        for start, stop in ((0, 7), (7, 8), (8, 15), (15, 16)):
            piece = slice(start, stop)
            logits, cache = extend(
                params, cfg, tokens[:, piece], cache, attention_mask=mask[:, piece]
            )
            parts.append(logits)
        difference = jnp.abs(jnp.concatenate(parts, axis=1) - full)
        errors.append(float(jnp.max(jnp.where(mask[..., None], difference, 0))))

        def greedy(tokens, mask, params=params, cfg=cfg):
            result = generate(
                key, params, cfg, tokens, attention_mask=mask, max_new_tokens=12, sampling=GREEDY
            )
            return np.asarray(result.tokens[0])

        alone = greedy(tokens[:1, :10], None)
        for side in ((6, 0), (0, 6)):
            padding = ((0, 0), side)
            padded = greedy(
                np.pad(tokens[:1, :10], padding), np.pad(np.ones((1, 10), bool), padding)
            )
            agreements.append(np.mean(padded == alone))
    return {"logit_error": max(errors), "greedy_agreement": float(np.mean(agreements))}


def measure_batch_invariance(key: jax.Array) -> dict[str, float]:
    """L6: rows sampled alone, with their own keys, against the same rows in one padded batch.

    Returns:
      `agreement`, the share of equal tokens, and `tokens`, their number.
    """
    params = perturbed_params(key, LLAMA)
    lengths = (20, 7, 13, 1, 16, 4)
    tokens = np.asarray(jax.random.randint(key, (len(lengths), max(lengths)), 0, 96))
    mask = np.arange(max(lengths)) >= max(lengths) - np.array(lengths)[:, None]
    sampling = SamplingConfig(temperature=0.8, top_p=0.95)
    settings: dict[str, Any] = {"max_new_tokens": 32, "sampling": sampling}
    batch = generate(key, params, LLAMA, tokens, attention_mask=mask, **settings)
    equal = []
    for row, length in enumerate(lengths):
        row_key = jax.random.fold_in(key, row)[None]
        alone = generate(row_key, params, LLAMA, tokens[row : row + 1, -length:], **settings)
        equal.append(np.asarray(alone.tokens[0] == batch.tokens[row]))
    return {"agreement": float(np.mean(equal)), "tokens": float(np.size(equal))}


def measure_resume(key: jax.Array, path) -> dict[str, float]:
    """L5: six steps at once against three, a checkpoint in `path`, and three from there.

    Returns:
      `differing`, how many entries of the final states differ in any bit, and `entries`.
    """
    params = perturbed_params(key, LLAMA)

    def run(steps, state=None):
        return train(_loss, _TX, params, _unequal_batch, steps=steps, key=key, state=state)

    whole = run(6)
    save_state(path, run(3))
    resumed = run(6, restore_state(path, init_train_state(params, _TX)))
    pairs = zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True)
    differing = sum(int(np.sum(np.asarray(a) != np.asarray(b))) for a, b in pairs)
    return {"differing": differing, "entries": sum(x.size for x in jax.tree.leaves(whole))}


def measure_splits(key: jax.Array, devices: int) -> dict[str, float]:
    """L4: three steps on one device against gradient accumulation and pmap, unequal loss masks.

    Returns:
      `accumulation_error` and `pmap_error`, the largest difference of a parameter.
    """
    params = perturbed_params(key, LLAMA)

    def run(**split):
        step = make_train_step(_loss, _TX, **split)
        state = init_train_state(jax.tree.map(jnp.copy, params), _TX)
        for number in range(3):
            state, _ = step(state, _unequal_batch(number), key)
        return jax.device_get(state.params)

    def distance(a, b):
        return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)))

    plain = run()
    pmapped = run(parallel="pmap", devices=jax.local_devices()[:devices], grad_accum=2)
    return {
        "accumulation_error": distance(plain, run(grad_accum=4)),
        "pmap_error": distance(plain, pmapped),
    }


def measure_sharding(key: jax.Array) -> dict[str, float]:
    """L9: a model on a 2 x 2 mesh (fsdp x tensor) against one device; needs four devices.

    Returns:
      `logit_error`, and `largest_share`, the largest part of a matrix that one device holds.
    """
    mesh = Mesh(
        np.array(jax.devices()[:4]).reshape(2, 2),
        ("fsdp", "tensor"),
        axis_types=(AxisType.Auto, AxisType.Auto),
    )
    params = perturbed_params(key, LLAMA)
    tokens = np.asarray(jax.random.randint(key, (4, 16), 0, 96))
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), param_specs(LLAMA, params))
    sharded = jax.device_put(params, shardings)
    rows = jax.device_put(tokens, NamedSharding(mesh, P("fsdp")))
    error = jnp.abs(forward(params, LLAMA, tokens).logits - np.asarray(_logits(sharded, rows)))
    shares = [
        math.prod(leaf.sharding.shard_shape(leaf.shape)) / leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(sharded)
        if path[-1].key.startswith("w")
    ]
    return {"logit_error": float(jnp.max(error)), "largest_share": max(shares)}


@jax.jit
def _logits(params, tokens):
    return forward(params, LLAMA, tokens).logits


def _loss(params, batch, key):
    del key
    return next_token_loss(params, LLAMA, batch)


def _unequal_batch(step: int) -> dict[str, np.ndarray]:
    """Eight rows of which some learn one token and others all."""
    rng = np.random.default_rng(step)
    learned = np.arange(16) < rng.integers(2, 17, (8, 1)) ** 2 / 16
    return {"tokens": rng.integers(0, 96, (8, 16)), "loss_mask": learned}
