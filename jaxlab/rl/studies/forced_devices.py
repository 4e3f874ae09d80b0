"""Equality on several devices, measured in a process that has four: prints one line of JSON.

`python -m jaxlab.rl.studies.forced_devices`, which the study `devices` starts with the flag that
makes devices of one processor.
"""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.parallel import replicate, shard_batch
from jaxlab.rl.data_parallel import make_pmap_step
from jaxlab.rl.dual import dual_init, dual_merge, dual_step
from jaxlab.rl.sac import (
    SACConfig,
    actor_half,
    actor_side,
    critic_half,
    critic_side,
    draw_noise,
    sac_init,
    sac_optimizers,
    sac_step,
)
from jaxlab.rl.transition import Transition

DEVICES, STEPS = 4, 25
_BATCH, _REPEATS = 1024, 15


def _batch(key, config, rows):
    keys = jax.random.split(key, 5)
    obs, next_obs = (jax.random.normal(k, (rows, config.obs_dim)) for k in keys[:2])
    action = jax.random.uniform(keys[2], (rows, config.act_dim), minval=-1)
    reward = jax.random.normal(keys[3], (rows,))
    ended = (jax.random.uniform(keys[4], (rows,)) < 0.1).astype(jnp.float32)
    return Transition(obs, action, reward, next_obs, ended)


def _largest_difference(a, b) -> float:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(np.max([np.max(np.abs(np.asarray(x) - np.asarray(y))) for x, y in leaves]))


def equality() -> dict[str, float]:
    """Largest differences of parameters after `STEPS` steps."""
    config = SACConfig(17, 6, (64, 64), order="parallel")
    one = sac_init(jax.random.key(0), config)
    dual = dual_init(one, jax.devices()[0], jax.devices()[1])
    many = replicate(one, DEVICES)
    spread = make_pmap_step(config, DEVICES)
    step = jax.jit(sac_step, static_argnums=3)
    for i in range(STEPS):
        batch = _batch(jax.random.key(i), config, 256)
        noise = draw_noise(jax.random.key(1000 + i), 256, config.act_dim)
        one, _ = step(one, batch, noise, config)
        dual, _ = dual_step(dual, batch, noise, config)
        many, _ = spread(many, *shard_batch((batch, noise), DEVICES))
    first = jax.tree.map(lambda x: np.asarray(x)[0], many)
    return {
        "dual": _largest_difference(dual_merge(dual), one),
        "pmap": _largest_difference(first, one),
    }


def halves() -> dict[str, float]:
    """Median processor seconds of each half of a step on networks of two times 256."""
    config = SACConfig(17, 6)
    optimizers = sac_optimizers(config)
    state = sac_init(jax.random.key(0), config)
    batch = _batch(jax.random.key(1), config, _BATCH)
    noise = draw_noise(jax.random.key(2), _BATCH, config.act_dim)
    critics = jax.jit(
        lambda s, b, eps: critic_half(
            critic_side(s), s.actor, s.log_alpha, b, eps, config, optimizers
        )
    )
    policy = jax.jit(
        lambda s, b, eps: actor_half(actor_side(s), s.critic, b, eps, config, optimizers)
    )
    times = {"critic_s": [], "actor_s": []}
    for turn in range(_REPEATS + 1):
        calls = (("critic_s", critics, noise.next_eps), ("actor_s", policy, noise.eps))
        for name, half, eps in calls:
            start = time.process_time()
            jax.block_until_ready(half(state, batch, eps))
            if turn:  # the first call compiles
                times[name].append(time.process_time() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


if __name__ == "__main__":
    print(json.dumps(equality() | halves()))
