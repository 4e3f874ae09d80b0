"""Pendulum-v1 to a mean return of -200, on the device."""

import time

import jax
import numpy as np

from jaxlab.rl.device_envs import make_env
from jaxlab.rl.on_device import OnDeviceConfig, evaluate_policy, ondevice_init, ondevice_run
from jaxlab.rl.sac import SACConfig

GOAL = -200.0
EPISODES = 32  # single episodes of a good policy go down to -380
_CHUNK = 50  # iterations between evaluations


def solve(seed: int, config: SACConfig, run: OnDeviceConfig, max_updates: int) -> dict:
    """Trains until the goal or `max_updates`.

    Returns:
      `updates`, `env_steps`, `seconds` (compilation not counted), `compile_s`, whether it was
      `reached`, and the curve: `curve_updates`, `curve_return`.
    """
    env = make_env("pendulum")
    key, eval_key = jax.random.split(jax.random.key(seed))
    start = time.perf_counter()
    state = ondevice_init(key, env, config, run)
    # Traced and compiled outside the clock, without a step taken.
    donating = jax.jit(ondevice_run, static_argnums=(1, 2, 3, 4), donate_argnums=0)
    advance = donating.lower(state, env, config, run, _CHUNK).compile()
    evaluate = evaluate_policy.lower(eval_key, env, state.learner.actor, config, EPISODES).compile()
    compile_s = time.perf_counter() - start
    start = time.perf_counter()
    updates, returns = [], []
    while not returns or (returns[-1] < GOAL and updates[-1] < max_updates):
        state, _ = advance(state)
        returns.append(float(evaluate(eval_key, state.learner.actor).mean()))
        updates.append(int(state.learner.step))
    return {
        "updates": updates[-1],
        "env_steps": int(state.env_steps),
        "seconds": time.perf_counter() - start,
        "compile_s": compile_s,
        "reached": returns[-1] >= GOAL,
        "curve_updates": np.array(updates),
        "curve_return": np.array(returns),
    }
