"""Schedules in closed form; AdamW by hand in NumPy and against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab.lm.optimizer import OptimizerConfig, make_optimizer, make_schedule


def closed_form(config, step):
    if step < config.warmup_steps:
        return config.peak_lr * (step + 1) / config.warmup_steps
    x = (step - config.warmup_steps) / (config.total_steps - config.warmup_steps)
    x, r = min(max(x, 0), 1), config.end_lr_ratio
    share = {
        "cosine": r + (1 - r) * (1 + np.cos(np.pi * x)) / 2,
        "linear": 1 - (1 - r) * x,
        "constant": 1.0,
        "wsd": 1.0 if x <= 0.8 else 1 - (1 - r) * (x - 0.8) / 0.2,
    }
    return config.peak_lr * share[config.schedule]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "wsd"])
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedules(schedule, warmup):
    config = OptimizerConfig(
        peak_lr=0.02, schedule=schedule, warmup_steps=warmup, total_steps=50, end_lr_ratio=0.25
    )
    rate = make_schedule(config)
    steps = np.arange(60)
    expected = [closed_form(config, step) for step in steps]
    np.testing.assert_allclose(jax.vmap(rate)(jnp.asarray(steps)), expected, rtol=1e-5)
    np.testing.assert_allclose(rate(3), expected[3], rtol=1e-5)


def test_warmup_may_take_all_steps():
    rate = make_schedule(OptimizerConfig(peak_lr=1.0, warmup_steps=10, total_steps=10))
    np.testing.assert_allclose([rate(0), rate(9), rate(10)], [0.1, 1.0, 1.0])


PARAMS = {
    "embed": {"w": 0.5, "shift": -0.3},
    "layers": {"attn": {"wq": 1.0, "bq": 0.2}, "attn_norm": {"scale": 1.1}},
}


def test_adamw_by_hand():
    config = OptimizerConfig(
        peak_lr=0.1,
        schedule="linear",
        warmup_steps=2,
        total_steps=10,
        weight_decay=0.3,
        clip_norm=1.0,
    )
    tx = make_optimizer(config)
    rng = np.random.default_rng(0)
    shape = (2, 3)  # norms are stacked matrices too: a rule by rank would decay them
    params = jax.tree.map(lambda x: jnp.full(shape, x), PARAMS)
    state = tx.init(params)
    mine = jax.tree.map(lambda x: np.full(shape, x), PARAMS)
    first = jax.tree.map(lambda x: np.zeros(shape), PARAMS)
    second = first
    for step in range(5):
        grads = jax.tree.map(lambda x: rng.normal(size=shape) * 3, PARAMS)
        updates, state = tx.update(
            jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), grads), state, params
        )
        params = optax.apply_updates(params, updates)
        norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(grads)))
        grads = jax.tree.map(lambda g, norm=norm: g / max(1, norm), grads)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g**2, second, grads)
        rate = closed_form(config, step)

        def updated(path, p, m, v, rate=rate, step=step):
            m, v = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.95 ** (step + 1))
            decay = 0.3 if path[-1].key in ("w", "wq") else 0.0
            return p - rate * (m / (np.sqrt(v) + 1e-8) + decay * p)

        mine = jax.tree_util.tree_map_with_path(updated, mine, first, second)
    for ours, expected in zip(jax.tree.leaves(params), jax.tree.leaves(mine), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-6)


def test_equals_torch_adamw(from_peer):
    config = OptimizerConfig(peak_lr=0.05, schedule="constant", weight_decay=0.2, clip_norm=0.5)
    start = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    target = np.ones((4, 3), np.float32)

    def theirs():
        import torch

        w = torch.nn.Parameter(torch.tensor(start))
        optimizer = torch.optim.AdamW([w], lr=0.05, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.2)
        for _ in range(20):
            optimizer.zero_grad()
            ((w - torch.tensor(target)) ** 2).sum().backward()
            torch.nn.utils.clip_grad_norm_([w], 0.5)
            optimizer.step()
        return {"w": w.detach()}

    tx = make_optimizer(config)
    params = {"w": jnp.asarray(start)}
    state = tx.init(params)
    for _ in range(20):
        grads = jax.grad(lambda p: jnp.sum((p["w"] - target) ** 2))(params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["w"], from_peer(theirs, "torch")["w"], atol=1e-5)


def test_without_clipping():
    config = OptimizerConfig(peak_lr=1.0, schedule="constant", clip_norm=0, weight_decay=0, eps=1.0)
    tx = make_optimizer(config)
    params = {"w": jnp.zeros(1)}
    updates, _ = tx.update({"w": jnp.full(1, 100.0)}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -100 / 101, rtol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        {"schedule": "step"},
        {"warmup_steps": -1},
        {"warmup_steps": 20, "total_steps": 10},
        {"total_steps": 0},
        {"clip_norm": -1.0},
    ],
)
def test_bad_settings(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        OptimizerConfig(**bad)
