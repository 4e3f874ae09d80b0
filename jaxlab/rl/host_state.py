"""What a run with environments on the host carries from one call to the next."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlab import runs
from jaxlab.rl.checkpoint import load_checkpoint, save_checkpoint
from jaxlab.rl.evaluation import evaluate_episodes
from jaxlab.rl.host_config import HostConfig
from jaxlab.rl.learner import make_learner, policy_of
from jaxlab.rl.shared_replay import ReplaySpec, SharedReplay
from jaxlab.rl.vec_env import make_vec_env
from jaxlab.runs.atomic import write_bytes

_COUNTS = ("env_steps", "updates", "version")


class HostState(NamedTuple):
    """A run between two calls of the learner.

    Attributes:
      learner: the algorithm's state.
      env_steps: transitions collected.
      updates: updates done.
      version: of the policy on the board.
      key: of the whole run.
      ring: the ring's contents, or None where they are not kept.
    """

    learner: Any
    env_steps: int
    updates: int
    version: int
    key: jax.Array
    ring: dict[str, np.ndarray] | None


def fresh_state(key: jax.Array, config, host: HostConfig) -> HostState:
    """A run that has not begun."""
    learner = make_learner(config).init(jax.random.fold_in(key, 0))
    return HostState(learner, 0, 0, 0, key, None)


def ring_spec(config, host: HostConfig) -> ReplaySpec:
    """The ring of a run: as many whole shards as it can have samplers."""
    writers = 1 if host.mode == "sync" else host.most_samplers
    capacity = host.capacity // writers * writers
    return ReplaySpec(capacity, config.obs_dim, config.act_dim, writers)


UPDATE, DRAW, SAMPLE, EVALUATE = range(1, 5)  # what a key or a seed is for


def seed_of(state: HostState, purpose: int) -> int:
    """A seed for NumPy, of its own for each purpose, each stretch of a run and each process.

    That of evaluations is the same for the whole run, so that all start from the same states.
    """
    key = jax.random.fold_in(state.key, purpose)
    if purpose != EVALUATE:
        key = jax.random.fold_in(key, state.env_steps % 2**31)
        if jax.process_count() > 1:
            key = jax.random.fold_in(key, jax.process_index())
    return int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))


def update_key(state: HostState) -> jax.Array:
    """The key of the next call of the learner."""
    return jax.random.fold_in(jax.random.fold_in(state.key, UPDATE), state.updates)


def mean_return(state: HostState, host: HostConfig) -> float:
    """Of the deterministic policy, over `eval_episodes` episodes, in this process."""
    env = make_vec_env(host.env_id, host.eval_episodes, seed_of(state, EVALUATE))
    returns = evaluate_episodes(env, policy_of(state.learner))
    env.close()
    return float(returns.mean())


def checkpoint_folder(workdir: Path) -> Path:
    """Where the checkpoint is."""
    return workdir / "checkpoint"


def save_state(workdir: Path, state: HostState) -> None:
    """Replaces the checkpoint in `workdir`; with several processes all call.

    These hold the learner alike, and each a ring and transitions of its own, which go into a file
    beside the checkpoint.
    """
    if jax.process_count() > 1:
        own: dict[str, Any] = {"env_steps": np.asarray(state.env_steps)} | (state.ring or {})
        content = io.BytesIO()
        np.savez(content, **own)
        write_bytes(_file_of_this_process(workdir), content.getvalue())
        state = state._replace(ring=None, env_steps=0)
    save_checkpoint(checkpoint_folder(workdir), _as_tree(state))


def restore_state(workdir: Path, fresh: HostState, spec: ReplaySpec | None) -> HostState:
    """The run that a checkpoint in `workdir` holds, or the fresh one where there is none.

    Args:
      spec: that of the ring whose contents it holds; None if it holds none.

    Raises:
      ValueError: the checkpoint of another algorithm, key or ring.
    """
    folder = checkpoint_folder(workdir)
    if runs.latest_step(folder) is None:
        return fresh
    several = jax.process_count() > 1
    if spec is not None and not several:
        with SharedReplay.create(spec) as template:
            fresh = fresh._replace(ring=template.state_dict())
    tree = load_checkpoint(folder, _as_tree(fresh))
    counts = {name: int(tree[name]) for name in _COUNTS}
    state = HostState(
        learner=tree["learner"], key=tree["key"], ring=jax.device_get(tree["ring"]), **counts
    )
    if several:
        with np.load(_file_of_this_process(workdir)) as file:
            own = dict(file)
        state = state._replace(env_steps=int(own.pop("env_steps")), ring=own or None)
    return state


def _file_of_this_process(workdir: Path) -> Path:
    return workdir / f"process_{jax.process_index()}.npz"


def _as_tree(state: HostState) -> dict[str, Any]:
    counts = {name: np.asarray(getattr(state, name), np.int64) for name in _COUNTS}
    return {"learner": state.learner, "key": state.key, "ring": state.ring} | counts
