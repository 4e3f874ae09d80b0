"""A small random batch and config that several tests share."""

import jax
import numpy as np

from jaxlab import rl

OBS, ACT, ROWS = 5, 2, 12


def batch(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    return rl.Transition(
        rng.normal(size=(rows, OBS)).astype(np.float32),
        rng.uniform(-1, 1, (rows, ACT)).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        rng.normal(size=(rows, OBS)).astype(np.float32),
        (rng.random(rows) < 0.3).astype(np.float32),
    )


def config(**settings):
    return rl.SACConfig(OBS, ACT, **({"hidden": (8, 6), "init_alpha": 0.3} | settings))


def state(config, seed=1):
    """A state whose target critics, log standard deviations and biases are no defaults."""
    fresh = rl.sac_init(jax.random.key(seed), config)
    leaves, tree = jax.tree.flatten((fresh.actor, fresh.critic, fresh.target_critic))
    rng = np.random.default_rng(seed)
    leaves = [x + 0.1 * rng.normal(size=x.shape).astype(np.float32) for x in leaves]
    actor, critic, target = jax.tree.unflatten(tree, leaves)
    return fresh._replace(actor=actor, critic=critic, target_critic=target)
