"""Pendulum-v1 to a mean return of -200, on the device."""

import time

import jax
import numpy as np

from jaxlab.rl.device_envs import make_env
from jaxlab.rl.evaluation import evaluate_episodes
from jaxlab.rl.learner import policy_of
from jaxlab.rl.on_device import OnDeviceConfig, ondevice_init, ondevice_run
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.vec_env import make_vec_env

GOAL = -200.0
EPISODES = 32  # single episodes of a good policy go down to -380
_CHUNK = 50  # iterations between evaluations


def solve(seed: int, config: SACConfig, run: OnDeviceConfig, max_updates: int) -> dict:
    """Trains until the goal or `max_updates`.

    Returns:
      `updates`, `env_steps`, `seconds` and `cpu_s` (wall and processor, compilation not counted),
      `compile_s` and `compile_cpu_s`, whether it was `reached`, and the curve: `curve_updates`,
      `curve_return`.
    """
    env = make_env("pendulum")
    start, start_cpu = time.perf_counter(), time.process_time()
    state = ondevice_init(jax.random.key(seed), env, config, run)
    # Traced and compiled outside the clock, without a step taken.
    donating = jax.jit(ondevice_run, static_argnums=(1, 2, 3, 4), donate_argnums=0)
    advance = donating.lower(state, env, config, run, _CHUNK).compile()
    compiled, compiled_cpu = time.perf_counter(), time.process_time()
    updates, returns = [], []
    while not returns or (returns[-1] < GOAL and updates[-1] < max_updates):
        state, _ = advance(state)
        # On the host, which compiles nothing, and from the same states every time.
        starts = make_vec_env("numpy:pendulum", EPISODES, seed)
        returns.append(float(evaluate_episodes(starts, policy_of(state.learner)).mean()))
        updates.append(int(state.learner.step))
    return {
        "updates": updates[-1],
        "env_steps": int(state.env_steps),
        "seconds": time.perf_counter() - compiled,
        "cpu_s": time.process_time() - compiled_cpu,
        "compile_s": compiled - start,
        "compile_cpu_s": compiled_cpu - start_cpu,
        "reached": returns[-1] >= GOAL,
        "curve_updates": np.array(updates),
        "curve_return": np.array(returns),
    }
