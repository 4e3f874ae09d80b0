"""C6: which of 200 known controllers to deploy, from one or a few logged episodes of each."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.bandits import figures
from jaxlab.bandits.arms import returns_to_arms
from jaxlab.bandits.baselines import policy_value
from jaxlab.bandits.cloning import clone_behavior
from jaxlab.bandits.cql import Transitions, train_cql
from jaxlab.bandits.networks import MLP
from jaxlab.bandits.pendulum import (
    MAX_TORQUE,
    Episodes,
    observe,
    pendulum_episodes,
    pendulum_policies,
    rollout,
    torque_error,
    torque_of,
)
from jaxlab.bandits.studies.methods import Calibration, calibrate, decide
from jaxlab.runs import Claim, Run, holds, progress, spread, study_key

COUNTS = (1, 2, 5, 10)  # logged episodes of each controller
_LEARNED_COUNTS = (1, 5)
_TORQUES = np.linspace(-MAX_TORQUE, MAX_TORQUE, 9)
_DISCOUNT = 0.99


def measure(config, run: Run) -> list[Claim]:
    """Values of the chosen policies over fresh logs, and of two learners on the same episodes."""
    policies, truth = controllers(config, run)
    result = run.once("pendulum", lambda: _selection(config, policies, truth))
    learned = run.once("pendulum_learned", lambda: _learned(config, policies))
    run.figure("pendulum", figures.pendulum(result, learned, COUNTS))
    return [_selection_claim(config, result), _learned_claim(config, learned)]


def _selection_claim(config, result: dict) -> Claim:
    value, bound = result["value"], result["certificate"]
    one = {name: values[:, 0] for name, values in value.items()}
    uniform = float(result["uniform"])
    violated = sum(int((bound[mode] > value[mode]).sum()) for mode in ("joint", "union"))
    rows = "; ".join(
        f"n = {n}: {value['joint'][:, i].mean():.0f} / {value['lcb'][:, i].mean():.0f}"
        for i, n in enumerate(COUNTS[1:], 1)
    )
    return Claim(
        "C6",
        "It applies to offline RL where the policies that logged the data are known",
        "",
        f"n = 1: TRUST {spread(one['joint'])} (worst {one['joint'].min():.0f}, certificate "
        f"{bound['joint'][:, 0].mean():.0f}), LCB {one['lcb'].mean():.0f} (worst "
        f"{one['lcb'].min():.0f}), uniform {uniform:.0f}",
        holds(
            one["joint"].mean() >= uniform + 150
            and one["joint"].mean() >= one["lcb"].mean() + 100
            and one["joint"].min() >= one["lcb"].min() + 300
        ),
        detail=f"An analogue: {config.logging_policies} torque controllers on pendulum swing-up "
        f"(Gymnasium's dynamics) in place of MuJoCo, {config.num_seeds} logs, truth from "
        f"{config.truth_episodes} episodes each. sigma = {config.logging_sigma:g} known at n = 1, "
        f"pooled from n = 2. TRUST / LCB at {rows}. {violated} of "
        f"{2 * value['joint'].size} certificates above the value. Criterion at n = 1: mean at "
        "least 150 above uniform and 100 above LCB, worst log at least 300 above LCB's worst.",
    )


def _learned_claim(config, learned: dict) -> Claim:
    said = [
        f"{name} {' / '.join(f'{value:.0f}' for value in values.mean(0))}"
        for name, values in learned.items()
    ]
    return Claim(
        "C6-rl",
        "Offline RL on the same episodes",
        "",
        f"{'; '.join(said)} at n = {' / '.join(map(str, _LEARNED_COUNTS))}",
        "reported",
        detail=f"Mean return over {config.learned_logs} logs: behaviour cloning of the "
        f"best-looking controller, and small CQL ({len(_TORQUES)} torques, MLP 64 x 64, "
        f"{config.learned_steps} steps). Neither was tuned, so neither row is judged.",
    )


def controllers(config, run: Run) -> tuple[jax.Array, np.ndarray]:
    """Gains `[K, 4]` of the controllers and their true values `[K]`."""
    policies = pendulum_policies(study_key(config, 8), config.logging_policies)

    def values():
        chunks = -(-config.truth_episodes // max(COUNTS))
        keys = jax.random.split(study_key(config, 16), chunks)
        return {"truth": np.mean([_returns(key, policies).mean(1) for key in keys], axis=0)}

    return policies, run.once("pendulum_truth", values)["truth"]


def _returns(key, policies) -> jax.Array:
    """`[K, n]`, by the one program that also gives the episodes to the learners."""
    return pendulum_episodes(key, policies, max(COUNTS)).reward.sum(-1)


def _log_keys(config) -> jax.Array:
    return jax.random.split(study_key(config, 9), config.num_seeds)


def _selection(config, policies, truth) -> dict:
    """`[S, counts]` per method: true values and certificates."""
    unit = calibrate(study_key(config, 17), jnp.ones(config.logging_policies), config)
    logs = jnp.stack([_returns(key, policies) for key in progress(_log_keys(config), "logging")])
    choose = jax.jit(jax.vmap(functools.partial(_choose, config), in_axes=(0, None, None)))
    return jax.device_get(choose(logs, truth, unit)) | {"uniform": truth.mean(), "truth": truth}


def _choose(config, returns, truth, unit: Calibration) -> dict:
    """Decisions `[counts]` from the first n of the returns `[K, n_max]`."""

    def with_first(count):
        logged = jnp.broadcast_to(jnp.arange(max(COUNTS)) < count, returns.shape)
        stats = returns_to_arms(returns, logged)
        # One episode each says nothing about the noise.
        known = jnp.where(count == 1, config.logging_sigma**2, stats.noise_var)
        stats = stats._replace(noise_var=known)
        results = decide(stats, unit.scaled(jnp.sqrt(stats.se2[0])), config)
        return {
            "value": {name: policy_value(r.policy, truth) for name, r in results.items()},
            "certificate": {name: result.lower_bound for name, result in results.items()},
        }

    return jax.vmap(with_first)(jnp.array(COUNTS))


def _learned(config, policies) -> dict:
    """Mean returns `[logs, counts]` of cloning and of CQL, from the logs of `_selection`."""
    rows = []
    log_keys = _log_keys(config)[: config.learned_logs]
    for number, key in enumerate(progress(log_keys, "offline RL")):
        episodes = pendulum_episodes(key, policies, max(COUNTS))
        # Episode by episode, so that a log of n episodes is the head of the longest one.
        episodes = jax.tree.map(lambda x: x.swapaxes(0, 1), episodes)
        seed = jax.random.fold_in(study_key(config, 10), number)
        columns = [
            _learn(jax.random.fold_in(seed, n), episodes, n, config) for n in _LEARNED_COUNTS
        ]
        rows.append({name: np.array([c[name] for c in columns]) for name in columns[0]})
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _learn(key, episodes: Episodes, count: int, config) -> dict:
    """Mean return of each learner from the first `count` of the episodes `[n, K, T]`."""
    clone_key, cql_key, test_key = jax.random.split(key, 3)
    best = episodes.reward[:count].sum(-1).mean(0).argmax()
    looks_best = jax.tree.map(lambda x: x[:, best], episodes)
    cloned = clone_behavior(
        clone_key,
        observe(looks_best.theta, looks_best.speed).reshape(-1, 3),
        looks_best.torque.reshape(-1),
        loss=torque_error,
        num_outputs=1,
        num_rows=count * looks_best.torque.shape[-1],
        num_steps=config.learned_steps,
    )
    tests = config.truth_episodes
    value = {"cloning": float(_network_return(test_key, cloned, torque_of, 1, tests))}
    transitions = _transitions(episodes)
    for alpha in config.cql_alphas:
        params = train_cql(
            cql_key,
            transitions,
            num_actions=len(_TORQUES),
            alpha=alpha,
            num_rows=count * transitions.action.size // episodes.reward.shape[0],
            num_steps=config.learned_steps,
        )
        mean_return = _network_return(test_key, params, _greedy_torque, len(_TORQUES), tests)
        value[f"CQL alpha {alpha:g}"] = float(mean_return)
    return value


def _nearest(torque: jax.Array) -> jax.Array:
    return jnp.abs(torque[..., None] - _TORQUES).argmin(-1)


def _transitions(episodes: Episodes) -> Transitions:
    """All steps but each episode's last; rewards in units of their deviation."""
    seen = observe(episodes.theta, episodes.speed)
    reward = (episodes.reward / episodes.reward.std())[..., :-1].ravel()
    return Transitions(
        seen[..., :-1, :].reshape(-1, 3),
        _nearest(episodes.torque[..., :-1]).ravel(),
        reward,
        seen[..., 1:, :].reshape(-1, 3),
        jnp.full_like(reward, _DISCOUNT),  # the time limit is no end of the task
    )


def _greedy_torque(q_values: jax.Array) -> jax.Array:
    return jnp.asarray(_TORQUES)[q_values.argmax(-1)]


@functools.partial(jax.jit, static_argnames=("torque", "num_outputs", "num_episodes"))
def _network_return(key, params, torque: Callable, num_outputs: int, num_episodes: int):
    network = MLP(num_outputs)

    def act(theta, speed):
        return torque(network.apply(params, observe(theta, speed)))

    keys = jax.random.split(key, num_episodes)
    return jax.vmap(lambda key: rollout(key, act, 200).reward.sum())(keys).mean()
