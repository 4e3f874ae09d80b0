"""The network that the offline RL baselines share."""

from collections.abc import Sequence

import flax.linen as nn
import jax


class MLP(nn.Module):
    """Maps observations `[..., d]` to outputs `[..., num_outputs]`."""

    num_outputs: int
    hidden: Sequence[int] = (64, 64)

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        x = observation
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.num_outputs)(x)
