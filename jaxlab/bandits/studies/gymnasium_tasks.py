"""Offline RL on Gymnasium's own environments: TRUST, LCB and cloning on logs of known policies."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlab.bandits import figures
from jaxlab.bandits.arms import returns_to_arms
from jaxlab.bandits.baselines import policy_value
from jaxlab.bandits.cloning import clone_behavior
from jaxlab.bandits.gymnasium_log import (
    EpisodeLog,
    cartpole_act,
    cartpole_policies,
    log_episodes,
    pendulum_act,
)
from jaxlab.bandits.networks import MLP
from jaxlab.bandits.pendulum import torque_error, torque_of
from jaxlab.bandits.studies.methods import calibrate, decide
from jaxlab.bandits.studies.pendulum_log import controllers
from jaxlab.runs import Claim, Run, not_run, progress, spread, study_key

_EPISODES = 2  # logged of each policy: the fewest from which the noise can be estimated
_TEST_EPISODES = 50


def measure(config, run: Run) -> list[Claim]:
    """Values over fresh logs of both environments; reported, since the paper has no such row."""
    try:
        import gymnasium  # noqa: F401
    except ImportError:
        detail = "gymnasium is not installed: pip install jaxlab[bandits]"
        return [not_run("C6-gym", _STATEMENT, detail)]
    # The pendulum's own controllers: their true values are known from the dynamics in JAX, which
    # a test holds against Gymnasium's, for a thousandth of the time.
    swing_up = _spaced(controllers(config, run), config.gym_policies)
    values = {
        "CartPole-v1": run.once("gymnasium_cartpole", lambda: _cartpole(config)),
        "Pendulum-v1": run.once("gymnasium_pendulum", lambda: _pendulum(config, *swing_up)),
    }
    run.figure("gymnasium", figures.gymnasium(values))
    said = [
        f"{env_id}: TRUST {spread(result['value']['joint'])}, LCB "
        f"{result['value']['lcb'].mean():.4g}, cloning {result['value']['cloning'].mean():.4g}, "
        f"uniform {result['truth'].mean():.4g}, best {result['truth'].max():.4g}"
        for env_id, result in values.items()
    ]
    violated = sum(
        int((result["certificate"]["joint"] > result["value"]["joint"]).sum())
        for result in values.values()
    )
    return [
        Claim(
            "C6-gym",
            _STATEMENT,
            "",
            "; ".join(said),
            "reported",
            detail=f"{config.gym_policies} policies, {_EPISODES} logged episodes each, "
            f"{config.gym_logs} logs, pooled noise; values are mean returns of an episode. "
            f"{violated} of {2 * config.gym_logs} certificates above the value. LCB takes the "
            "best-looking policy; cloning imitates it from its episodes.",
        )
    ]


_STATEMENT = "Offline RL in Gymnasium's environments, logged by policies of different strength"


def _cartpole(config) -> dict:
    policies = cartpole_policies(np.random.default_rng(config.seed), config.gym_policies)
    play = functools.partial(log_episodes, "CartPole-v1", cartpole_act(policies))
    truth = play(config.gym_policies, _TEST_EPISODES, _seed(config, "truth")).returns.mean(1)

    clone = functools.partial(
        clone_behavior,
        loss=optax.softmax_cross_entropy_with_integer_labels,
        num_outputs=2,
        num_steps=config.learned_steps,
    )

    act = jax.jit(lambda params, seen: MLP(2).apply(params, seen).argmax(-1))

    def clone_value(key, observations, actions, num_rows):
        params = clone(key, observations, actions, num_rows=num_rows)
        return _mean_return(config, "CartPole-v1", functools.partial(act, params))

    return _evaluate(config, "CartPole-v1", play, truth, clone_value)


def _pendulum(config, policies, truth) -> dict:
    play = functools.partial(log_episodes, "Pendulum-v1", pendulum_act(policies))
    clone = functools.partial(
        clone_behavior, loss=torque_error, num_outputs=1, num_steps=config.learned_steps
    )

    act = jax.jit(lambda params, seen: torque_of(MLP(1).apply(params, seen))[..., None])

    def clone_value(key, observations, actions, num_rows):
        params = clone(key, observations, actions[:, 0], num_rows=num_rows)
        return _mean_return(config, "Pendulum-v1", functools.partial(act, params))

    return _evaluate(config, "Pendulum-v1", play, truth, clone_value)


def _evaluate(config, env_id: str, play, truth: np.ndarray, clone_value) -> dict:
    """Per log `[L]`: values and certificates of TRUST and LCB, and the value of cloning."""
    calibration_key, clone_key = jax.random.split(study_key(config, 13))
    unit = calibrate(calibration_key, jnp.ones(config.gym_policies), config)
    rows = []
    for number in progress(range(config.gym_logs), env_id):
        log = play(config.gym_policies, _EPISODES, _seed(config, f"{env_id} {number}"))
        stats = returns_to_arms(log.returns.astype(np.float32))
        results = _decide(stats, unit.scaled(jnp.sqrt(stats.se2[0])), config)
        best = int(np.argmax(log.returns.mean(1)))
        cloned = clone_value(jax.random.fold_in(clone_key, number), *_steps_of(log, best))
        rows.append(
            {
                "value": {name: policy_value(r.policy, truth) for name, r in results.items()}
                | {"cloning": cloned},
                "certificate": {name: r.lower_bound for name, r in results.items()},
            }
        )
    stacked = jax.tree.map(lambda *x: np.stack(x), *jax.device_get(rows))
    return stacked | {"truth": truth}


_decide = jax.jit(decide, static_argnames="config")


def _steps_of(log: EpisodeLog, policy: int):
    """Observations and actions of one policy's steps, zero-padded, and how many steps there are."""
    lengths = log.lengths[policy]
    steps = log.observations.shape[2]
    ended = np.arange(steps) >= lengths[:, None]
    order = np.argsort(ended.ravel(), kind="stable")
    flat = (x[policy].reshape(ended.size, *x.shape[3:]) for x in (log.observations, log.actions))
    return *(jnp.asarray(x[order]) for x in flat), int(lengths.sum())


def _mean_return(config, env_id: str, act) -> float:
    """Mean return of `act(observations)` in the environment."""
    log = log_episodes(
        env_id, lambda seen, _: np.asarray(act(seen)), 1, _TEST_EPISODES, _seed(config, "test")
    )
    return float(log.returns.mean())


def _spaced(arrays, count: int):
    """`count` evenly spaced rows of each array."""
    rows = np.linspace(0, len(arrays[0]) - 1, count).astype(int)
    return [x[rows] for x in arrays]


def _seed(config, purpose: str) -> int:
    """Seeds far enough apart that the consecutive seeds of a vectorised environment differ."""
    return zlib.crc32(f"{config.seed} {purpose}".encode()) % 2**30
