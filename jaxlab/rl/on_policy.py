"""PPO in one compiled program: collect with every environment, learn in epochs, throw away."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.rl.device_envs import DeviceStep, begin, step_and_renew
from jaxlab.rl.ppo import PPOBatch, PPOConfig, PPOState, gae, ppo_init, ppo_step, value_apply
from jaxlab.rl.sac import actor_apply
from jaxlab.rl.settings import require
from jaxlab.rl.squashed_gaussian import squashed_log_prob


@dataclasses.dataclass(frozen=True)
class OnPolicyConfig:
    """How much of what happens in one iteration; static.

    Attributes:
      n_envs: environments stepped at once.
      n_steps: steps of each between two updates of the policy.
      n_epochs: passes over what was collected.
      n_minibatches: parts of a pass; they divide n_envs times n_steps.

    Raises:
      ValueError: a value out of range, by name.
    """

    n_envs: int = 16
    n_steps: int = 128
    n_epochs: int = 10
    n_minibatches: int = 16

    def __post_init__(self):
        for name in ("n_envs", "n_steps", "n_epochs", "n_minibatches"):
            require(self, name, getattr(self, name) >= 1, "must be >= 1")
        rows = self.n_envs * self.n_steps
        require(
            self,
            "n_minibatches",
            rows % self.n_minibatches == 0,
            f"must divide n_envs * n_steps = {rows}",
        )


class OnPolicyState(NamedTuple):
    """What a run carries.

    Attributes:
      learner: the PPOState.
      env_steps: `()` int32, transitions collected.
      env_states: the environments' states, leading axis [n_envs].
      obs: `[n_envs, O]` what to act on next.
      key: for everything that is drawn from here on.
    """

    learner: PPOState
    env_steps: jax.Array
    env_states: Any
    obs: jax.Array
    key: jax.Array


class Rollout(NamedTuple):
    """T steps of N environments: `obs` `[T, N, O]`, `pre_tanh` `[T, N, A]`, `log_prob` `[T, N]`,
    and `out` as `DeviceStep` with the same leading axes."""

    obs: jax.Array
    pre_tanh: jax.Array
    log_prob: jax.Array
    out: DeviceStep


@functools.partial(jax.jit, static_argnames=("env", "config", "run"))
def onpolicy_init(key: jax.Array, env, config: PPOConfig, run: OnPolicyConfig) -> OnPolicyState:
    """A fresh learner and reset environments.

    Raises:
      ValueError: a config made for other sizes than the environment's.
    """
    learner_key, run_key, steps, env_states, obs = begin(key, env, config, run.n_envs)
    return OnPolicyState(ppo_init(learner_key, config), steps, env_states, obs, run_key)


@functools.partial(jax.jit, static_argnames=("env", "config", "run", "n_iters"))
def onpolicy_run(
    state: OnPolicyState, env, config: PPOConfig, run: OnPolicyConfig, n_iters: int
) -> tuple[OnPolicyState, dict[str, jax.Array]]:
    """`n_iters` iterations: n_steps of all environments, then n_epochs over what they gave.

    The same state gives the same bits.

    Returns:
      The next state, and per iteration `[n_iters]` the means over its minibatches of `ppo_step`'s
      metrics and `reward`, the mean of the steps.
    """

    def iterate(state, _):
        key, collect_key, learn_key = jax.random.split(state.key, 3)
        env_states, obs, rollout = collect(
            collect_key, state.learner, state.env_states, state.obs, env, config, run.n_steps
        )
        rows = label(state.learner, rollout, config)
        learner, metrics = ppo_epochs(learn_key, state.learner, rows, config, run)
        metrics = jax.tree.map(jnp.mean, metrics) | {"reward": jnp.mean(rollout.out.reward)}
        env_steps = state.env_steps + run.n_envs * run.n_steps
        return OnPolicyState(learner, env_steps, env_states, obs, key), metrics

    return jax.lax.scan(iterate, state, length=n_iters)


def collect(
    key: jax.Array, learner: PPOState, env_states: Any, obs: jax.Array, env, config, n_steps: int
) -> tuple[Any, jax.Array, Rollout]:
    """`n_steps` of N environments with the policy; their states, observations and the rollout."""

    def step(carry, key):
        env_states, obs = carry
        noise_key, reset_key = jax.random.split(key)
        mean, log_std = actor_apply(learner.actor, obs, config)
        pre_tanh = mean + jnp.exp(log_std) * jax.random.normal(noise_key, mean.shape)
        log_prob = squashed_log_prob(mean, log_std, pre_tanh)
        env_states, after, out = step_and_renew(env, env_states, jnp.tanh(pre_tanh), reset_key)
        return (env_states, after), Rollout(obs, pre_tanh, log_prob, out)

    keys = jax.random.split(key, n_steps)
    (env_states, obs), rollout = jax.lax.scan(step, (env_states, obs), keys)
    return env_states, obs, rollout


def label(learner: PPOState, rollout: Rollout, config: PPOConfig) -> PPOBatch:
    """The rollout as T x N rows with their advantages and returns."""
    value = value_apply(learner.critic, rollout.obs, config)
    next_value = value_apply(learner.critic, rollout.out.next_obs, config)
    out = rollout.out
    advantage, return_ = gae(
        out.reward, value, next_value, out.terminated, out.truncated, config.gamma, config.lam
    )
    batch = PPOBatch(rollout.obs, rollout.pre_tanh, rollout.log_prob, advantage, return_)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def ppo_epochs(
    key: jax.Array, learner: PPOState, rows: PPOBatch, config: PPOConfig, run: OnPolicyConfig
) -> tuple[PPOState, dict[str, jax.Array]]:
    """n_epochs passes over the rows, each in minibatches of an order of its own.

    Returns:
      The learner, and `ppo_step`'s metrics `[n_epochs, n_minibatches]`.
    """
    count = len(rows.return_)

    def minibatch(learner, inputs):
        key, index = inputs
        eps = jax.random.normal(key, (len(index), config.act_dim))
        return ppo_step(learner, jax.tree.map(lambda x: x[index], rows), eps, config)

    def epoch(learner, key):
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, count).reshape(run.n_minibatches, -1)
        keys = jax.random.split(noise_key, run.n_minibatches)
        return jax.lax.scan(minibatch, learner, (keys, order))

    return jax.lax.scan(epoch, learner, jax.random.split(key, run.n_epochs))
