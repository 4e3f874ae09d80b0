"""Rows whose every entry is one value, and a process that writes them; free of jax."""

import numpy as np

from jaxlab.rl.shared_replay import SharedReplay
from jaxlab.rl.transition import Transition


def row(values, spec):
    values = np.asarray(list(values), np.float32)
    wide = np.tile(values[:, None], spec.obs_dim)
    return Transition(wide, np.tile(values[:, None], spec.act_dim), values, wide, values)


def write_for_ever(handle, writer, block):
    ring = SharedReplay.attach(handle)
    number = int(ring.written()[writer])
    while True:
        ring.write(writer, row(np.arange(number, number + block) % 10_000, ring.spec))
        number += block
