"""Undiscounted returns of the deterministic policy, without jax."""

import numpy as np

from jaxlab.rl.host_policy import act_greedily


def evaluate_episodes(env, params, max_steps: int | None = None) -> np.ndarray:
    """Returns `[n]` of the first episode of each of the environment's n copies.

    Args:
      env: from `make_vec_env`, reset here.
      params: the actor's, as numpy arrays.
      max_steps: steps after which a longer episode counts as it stands; None for no limit.
    """
    obs = env.reset()
    total = np.zeros(env.n_envs)
    alive = np.ones(env.n_envs, bool)
    step = 0
    while alive.any() and (max_steps is None or step < max_steps):
        out = env.step(act_greedily(params, obs))
        total += np.where(alive, out.reward, 0)
        alive &= ~(out.terminated | out.truncated)
        obs, step = out.obs, step + 1
    return total
