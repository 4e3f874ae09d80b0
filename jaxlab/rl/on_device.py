"""Training in one compiled program: environments, ring, policy and updates in a scan."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.rl.device_envs import begin, step_and_renew
from jaxlab.rl.device_replay import ReplayState, replay_add, replay_init, replay_sample
from jaxlab.rl.sac import SACConfig, SACState, policy_act, sac_init, sac_update
from jaxlab.rl.settings import require
from jaxlab.rl.transition import Transition


@dataclasses.dataclass(frozen=True)
class OnDeviceConfig:
    """How much of what happens in one iteration; static.

    Attributes:
      n_envs: environments stepped at once.
      batch_size: rows of an update.
      updates_per_iter: updates after each step of all environments.
      capacity: rows of the ring.
      warmup_steps: transitions by uniformly random actions before the first update.

    Raises:
      ValueError: a value out of range, by name.
    """

    n_envs: int = 16
    batch_size: int = 256
    updates_per_iter: int = 4
    capacity: int = 100_000
    warmup_steps: int = 1000

    def __post_init__(self):
        for name in ("n_envs", "batch_size", "updates_per_iter"):
            require(self, name, getattr(self, name) >= 1, "must be >= 1")
        require(self, "warmup_steps", self.warmup_steps >= 0, "must be >= 0")
        require(self, "capacity", self.capacity >= self.n_envs, f"must be >= n_envs {self.n_envs}")


class OnDeviceState(NamedTuple):
    """What a run carries.

    Attributes:
      learner: the SACState.
      env_steps: `()` int32, transitions collected.
      env_states: the environments' states, leading axis [n_envs].
      obs: `[n_envs, O]` what to act on next.
      replay: the ring.
      key: for everything that is drawn from here on.
    """

    learner: SACState
    env_steps: jax.Array
    env_states: Any
    obs: jax.Array
    replay: ReplayState
    key: jax.Array


@functools.partial(jax.jit, static_argnames=("env", "config", "run"))
def ondevice_init(key: jax.Array, env, config: SACConfig, run: OnDeviceConfig) -> OnDeviceState:
    """A fresh learner, empty ring and reset environments.

    Raises:
      ValueError: a config made for other sizes than the environment's.
    """
    learner_key, run_key, steps, env_states, obs = begin(key, env, config, run.n_envs)
    replay = replay_init(run.capacity, env.obs_dim, env.act_dim)
    learner = sac_init(learner_key, config)
    return OnDeviceState(learner, steps, env_states, obs, replay, run_key)


@functools.partial(jax.jit, static_argnames=("env", "config", "run", "n_iters"))
def ondevice_run(
    state: OnDeviceState, env, config: SACConfig, run: OnDeviceConfig, n_iters: int
) -> tuple[OnDeviceState, dict[str, jax.Array]]:
    """`n_iters` iterations: act in all environments, store, reset what ended, update.

    The same state gives the same bits. It stays valid; a loop that has no use for it saves the
    ring's copy with `jax.jit(ondevice_run, static_argnums=(1, 2, 3, 4), donate_argnums=0)`.

    Returns:
      The next state, and per iteration `[n_iters]` the means over its updates of `sac_step`'s
      metrics (0 before the warm-up's end) and `reward`, the mean of the step.
    """

    def iterate(state, _):
        key, act_key, reset_key, update_key = jax.random.split(state.key, 4)
        env_states, obs, batch = _collect(state, act_key, reset_key, env, config, run)
        env_steps = state.env_steps + run.n_envs
        replay = replay_add(state.replay, batch)

        def update(learner, key):
            sample_key, noise_key = jax.random.split(key)
            rows = replay_sample(sample_key, replay, run.batch_size)
            return sac_update(noise_key, learner, rows, config)

        def learn(learner):
            keys = jax.random.split(update_key, run.updates_per_iter)
            learner, metrics = jax.lax.scan(update, learner, keys)
            return learner, jax.tree.map(jnp.mean, metrics)

        def wait(learner):
            shapes = jax.eval_shape(learn, learner)[1]
            return learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        ready = env_steps >= run.warmup_steps
        learner, metrics = jax.lax.cond(ready, learn, wait, state.learner)
        metrics["reward"] = jnp.mean(batch.reward)
        return OnDeviceState(learner, env_steps, env_states, obs, replay, key), metrics

    return jax.lax.scan(iterate, state, length=n_iters)


@functools.partial(jax.jit, static_argnames=("env", "config", "n_episodes"))
def evaluate_policy(
    key: jax.Array, env, actor: Any, config: SACConfig, n_episodes: int = 10
) -> jax.Array:
    """Undiscounted returns `[n_episodes]` of the deterministic policy from random starts."""
    states, obs = jax.vmap(env.reset)(jax.random.split(key, n_episodes))

    def step(carry, _):
        states, obs, alive, total = carry
        action = policy_act(actor, obs, config)
        states, obs, reward, terminated, truncated = jax.vmap(env.step)(states, action)
        total = total + jnp.where(alive, reward, 0)
        return (states, obs, alive & ~(terminated | truncated), total), None

    start = states, obs, jnp.ones(n_episodes, bool), jnp.zeros(n_episodes)
    (_, _, _, total), _ = jax.lax.scan(step, start, length=env.max_steps)
    return total


def _collect(state, act_key, reset_key, env, config, run):
    """(environment states, observations to act on, the transitions) after one step of all."""
    random_key, policy_key = jax.random.split(act_key)
    shape = (run.n_envs, env.act_dim)
    action = jnp.where(
        state.env_steps < run.warmup_steps,
        jax.random.uniform(random_key, shape, minval=-1.0),
        policy_act(state.learner.actor, state.obs, config, policy_key),
    )
    env_states, obs, out = step_and_renew(env, state.env_states, action, reset_key)
    terminated = out.terminated.astype(jnp.float32)
    return env_states, obs, Transition(state.obs, action, out.reward, out.next_obs, terminated)
