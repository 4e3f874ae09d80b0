"""A ring of transitions in shared memory: many writers, any reader, no lock, no pickling.

Every writer owns a shard and two counters in a cache line of its own: how many rows it has
`reserved`, and how many of those it has `committed`. A writer reserves, copies, commits. A reader
takes both counters, copies rows that they say are whole, and then looks at `reserved` again: what a
writer may have begun to overwrite meanwhile is drawn once more. A writer that is killed in the
middle leaves rows reserved, which stay invalid until its successor has written over them.
"""

import dataclasses
import time
from typing import Any, NamedTuple

import numpy as np

from jaxlab.checks import check_at_least
from jaxlab.rl.settings import require
from jaxlab.rl.shared_segment import CACHE_LINE, attach_segment, create_segment, fence
from jaxlab.rl.transition import Transition, check_transition

_PATIENCE = 1.0  # seconds for a valid row to appear
_WORDS = CACHE_LINE // 8


@dataclasses.dataclass(frozen=True)
class ReplaySpec:
    """Sizes of a ring; `n_writers` is the most there can be, and divides `capacity`.

    Raises:
      ValueError: a size below 1, or a capacity that the writers do not divide.
    """

    capacity: int
    obs_dim: int
    act_dim: int
    n_writers: int = 1

    def __post_init__(self):
        for field in dataclasses.fields(self):
            require(self, field.name, getattr(self, field.name) >= 1, "must be >= 1")
        divides = self.capacity % self.n_writers == 0
        require(self, "capacity", divides, f"must be a multiple of n_writers {self.n_writers}")

    @property
    def shard(self) -> int:
        """Rows of one writer's shard."""
        return self.capacity // self.n_writers

    @property
    def width(self) -> int:
        """Floats of one row: obs, action, reward, next_obs, terminated."""
        return 2 * self.obs_dim + self.act_dim + 2


class ReplayHandle(NamedTuple):
    """What another process needs to attach; picklable."""

    name: str
    spec: ReplaySpec


class SharedReplay:
    """The ring. Use as a context manager, or `close` it, and `unlink` it where it was created."""

    def __init__(self, segment, spec: ReplaySpec, created: bool):
        self.spec = spec
        self._segment, self._created = segment, created
        header = spec.n_writers * CACHE_LINE
        words = np.frombuffer(segment.buf, np.int64, spec.n_writers * _WORDS)
        words = words.reshape(spec.n_writers, _WORDS)
        self._reserved: Any = words[:, 0]
        self._committed: Any = words[:, 1]
        rows = np.frombuffer(segment.buf, np.float32, spec.capacity * spec.width, offset=header)
        self._rows: Any = rows.reshape(spec.capacity, spec.width)

    @classmethod
    def create(cls, spec: ReplaySpec) -> "SharedReplay":
        """An empty ring.

        Raises:
          OSError: too little shared memory, with what is needed and what there is.
        """
        size = spec.n_writers * CACHE_LINE + spec.capacity * spec.width * 4
        return cls(create_segment(size), spec, created=True)

    @classmethod
    def attach(cls, handle: ReplayHandle) -> "SharedReplay":
        """The ring behind a handle. Raises FileNotFoundError when it is gone."""
        return cls(attach_segment(handle.name), handle.spec, created=False)

    @property
    def handle(self) -> ReplayHandle:
        """For `attach`."""
        return ReplayHandle(self._segment.name, self.spec)

    def write(self, writer_id: int, batch: Transition) -> None:
        """Adds k rows to the shard of `writer_id`, over the oldest; one writer a shard at a time.

        Raises:
          ValueError: no such writer, more rows than a shard has, or fields of other widths.
        """
        spec = self.spec
        if not 0 <= writer_id < spec.n_writers:
            raise ValueError(f"writer_id must lie in 0..{spec.n_writers - 1}, got {writer_id}")
        k = check_transition(batch, spec.obs_dim, spec.act_dim)
        if k > spec.shard:
            raise ValueError(f"{k} rows do not fit into a shard of {spec.shard}")
        committed = int(self._committed[writer_id])
        # Never back: a predecessor may have overwritten more when it was killed.
        reserved = max(int(self._reserved[writer_id]), committed + k)
        self._reserved[writer_id] = reserved
        fence()
        first = committed % spec.shard
        before_end = min(k, spec.shard - first)
        start = writer_id * spec.shard
        packed = pack(batch)
        self._rows[start + first : start + first + before_end] = packed[:before_end]
        self._rows[start : start + k - before_end] = packed[before_end:]
        fence()
        self._committed[writer_id] = committed + k

    def sample(self, rng: np.random.Generator, batch_size: int) -> Transition:
        """Rows drawn uniformly, with replacement, from all whole ones: private copies.

        Raises:
          ValueError: batch_size below 1, or nothing to draw from (for a second, if rows are just
            being overwritten).
        """
        return unpack(self.sample_packed(rng, batch_size), self.spec)

    def sample_packed(self, rng: np.random.Generator, batch_size: int) -> np.ndarray:
        """`sample` as one array `[B, D]` of rows obs, action, reward, next_obs, terminated."""
        check_at_least("batch_size", batch_size, 1)
        out = np.empty((batch_size, self.spec.width), np.float32)
        wanted = np.arange(batch_size)
        deadline = None
        while wanted.size:
            low, high = self._valid()
            ends = np.cumsum(np.maximum(high - low, 0))
            if not ends[-1]:
                deadline = self._wait(deadline)
                continue
            draw = rng.integers(ends[-1], size=wanted.size)
            shard = np.searchsorted(ends, draw, side="right")
            number = high[shard] - (ends[shard] - draw)
            out[wanted] = self._rows[shard * self.spec.shard + number % self.spec.shard]
            fence()
            torn = number < self._reserved[shard] - self.spec.shard
            wanted = wanted[torn]
        return out

    def size(self) -> int:
        """Rows that can be drawn."""
        low, high = self._valid()
        return int(np.maximum(high - low, 0).sum())

    def written(self) -> np.ndarray:
        """int64 `[n_writers]`, rows ever committed."""
        return self._committed.copy()

    def retire(self, writer_id: int) -> None:
        """Makes the rows of a writer that has ended invalid; its successor starts afresh."""
        self._reserved[writer_id] = self._committed[writer_id] + self.spec.shard

    def state_dict(self) -> dict[str, np.ndarray]:
        """The contents; also while writers write, whose unfinished rows are then invalid."""
        committed = self._committed.copy()
        fence()
        rows = self._rows.copy()
        fence()
        return {"committed": committed, "rows": rows, "reserved": self._reserved.copy()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what `state_dict` gave; no writer may write meanwhile.

        Raises:
          ValueError: contents of another ring.
        """
        for name, array in (("rows", self._rows), ("committed", self._committed)):
            if np.shape(state[name]) != array.shape:
                raise ValueError(
                    f"{name} has shape {np.shape(state[name])}, this ring's is {array.shape}"
                )
        self._rows[:] = state["rows"]
        self._committed[:] = state["committed"]
        self._reserved[:] = state["reserved"]

    def close(self) -> None:
        """Lets go of the memory in this process."""
        # Views keep the mapping alive, and closing it under them raises BufferError.
        self._rows = self._reserved = self._committed = None
        self._segment.close()

    def unlink(self) -> None:
        """Removes the segment; processes that are attached keep what they have."""
        self._segment.unlink()

    def __enter__(self) -> "SharedReplay":
        return self

    def __exit__(self, *_) -> None:
        self.close()
        if self._created:
            self.unlink()

    def _valid(self) -> tuple[np.ndarray, np.ndarray]:
        """First and past-the-last number `[n_writers]` of the rows that are whole."""
        committed = self._committed.copy()
        fence()
        return np.maximum(self._reserved - self.spec.shard, 0), committed

    def _wait(self, deadline: float | None) -> float:
        if not self._committed.any():
            raise ValueError("the ring is empty: nothing has been written yet")
        now = time.monotonic()
        if deadline is not None and now > deadline:
            raise ValueError(f"no valid row appeared within {_PATIENCE} s")
        time.sleep(1e-4)
        return deadline or now + _PATIENCE


def pack(batch: Transition) -> np.ndarray:
    """A transition as float32 rows `[k, D]`."""
    columns = [np.asarray(x, np.float32) for x in batch]
    return np.concatenate([x.reshape(len(x), -1) for x in columns], axis=1)


def unpack(rows, spec: ReplaySpec) -> Transition:
    """The transition in rows `[..., D]`, of numpy or jax."""
    obs, action = spec.obs_dim, spec.act_dim
    after = obs + action + 1
    return Transition(
        rows[..., :obs],
        rows[..., obs : after - 1],
        rows[..., after - 1],
        rows[..., after : after + obs],
        rows[..., -1],
    )
