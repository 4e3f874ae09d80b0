"""How an asynchronous run is laid out."""

import dataclasses

from jaxlab.checks import check_choice
from jaxlab.rl.settings import require

MODES = ("async", "sync", "dual", "pmap")


@dataclasses.dataclass(frozen=True)
class HostConfig:
    """Processes, sizes and ends of `train_host`.

    Attributes:
      env_id: see `make_vec_env`.
      n_samplers: processes that collect.
      envs_per_sampler: environments in each.
      batch_size: rows of an update.
      updates_per_call: U, updates fused into one program.
      capacity: rows of the ring.
      warmup_steps: transitions by random actions, before which nothing is learned.
      max_sample_hz: transitions per second of a sampler at most; None for no limit.
      max_replay_ratio: rows learned from per transition at most; the learner waits above it.
      max_seconds: wall time after which training ends.
      max_updates: updates after which it ends; None for no limit.
      target_return: mean return of an evaluation at which it ends; None for no goal.
      eval_every_s: seconds between evaluations.
      eval_episodes: episodes of one.
      publish_every: calls between publications of the policy.
      visualize: whether a process serves a page with the curves and a drawn episode.
      mode: "async"; "dual" and "pmap" are async with the learner on several devices, see
        `make_placement`; "sync" does everything in one process in turn, bit by bit the same each
        time.
      checkpoint_every_s: seconds between checkpoints.
      checkpoint_replay: whether they hold the ring's contents.
      record_every: evaluations from one drawn episode to the next; 0 draws none; None draws every
        tenth where a page shows them.
      max_samplers: the most samplers; while training runs, one more or one fewer is tried every
        minute (see `SamplerTrials`), and the ring has a shard for each. None keeps n_samplers.

    Raises:
      ValueError: a value out of range, by name.
    """

    env_id: str = "numpy:pendulum"
    n_samplers: int = 1
    envs_per_sampler: int = 16
    batch_size: int = 256
    updates_per_call: int = 8
    capacity: int = 100_000
    warmup_steps: int = 1000
    max_sample_hz: float | None = None
    max_replay_ratio: float | None = None
    max_seconds: float = 60.0
    max_updates: int | None = None
    target_return: float | None = None
    eval_every_s: float = 5.0
    eval_episodes: int = 10
    publish_every: int = 1
    visualize: bool = False
    mode: str = "async"
    checkpoint_every_s: float = 60.0
    checkpoint_replay: bool = True
    record_every: int | None = None
    max_samplers: int | None = None

    def __post_init__(self):
        whole = (
            "n_samplers",
            "envs_per_sampler",
            "batch_size",
            "updates_per_call",
            "capacity",
            "eval_episodes",
            "publish_every",
        )
        for name in whole:
            require(self, name, getattr(self, name) >= 1, "must be >= 1")
        require(self, "warmup_steps", self.warmup_steps >= 0, "must be >= 0")
        for name in ("max_seconds", "eval_every_s", "checkpoint_every_s"):
            require(self, name, getattr(self, name) > 0, "must be positive")
        for name in ("max_sample_hz", "max_replay_ratio", "max_updates"):
            value = getattr(self, name)
            require(self, name, value is None or value > 0, "must be positive or None")
        recorded = self.record_every is None or self.record_every >= 0
        require(self, "record_every", recorded, "must be >= 0 or None")
        check_choice("mode", self.mode, MODES)
        require(
            self,
            "max_samplers",
            self.max_samplers is None or self.max_samplers >= self.n_samplers,
            f"must be None or >= n_samplers {self.n_samplers}",
        )
        room = self.capacity // self.most_samplers >= self.envs_per_sampler
        require(self, "capacity", room, "must hold a step of every environment")

    @property
    def most_samplers(self) -> int:
        """How many there can be."""
        return self.max_samplers or self.n_samplers
