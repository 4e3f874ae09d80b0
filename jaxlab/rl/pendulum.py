"""The physics of gymnasium's Pendulum-v1, for any array module.

theta'' = 3 g / (2 l) sin(theta) + 3 / (m l^2) torque, with theta = 0 upright; the speed is
clipped, and the reward is that of the state before the step.
"""

import math

GRAVITY = 10.0
DT = 0.05
MAX_SPEED = 8.0
MAX_TORQUE = 2.0
MAX_STEPS = 200
OBS_DIM, ACT_DIM = 3, 1


def advance(xp, theta, speed, action):
    """(theta, speed, reward) after one step; `xp` is numpy or jax.numpy.

    Args:
      theta, speed: `[...]`, radians and radians per second.
      action: `[...]` in [-1, 1], of the largest torque; clipped.
    """
    torque = MAX_TORQUE * xp.clip(action, -1, 1)
    angle = (theta + math.pi) % (2 * math.pi) - math.pi
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = speed + (1.5 * GRAVITY * xp.sin(theta) + 3.0 * torque) * DT
    speed = xp.clip(speed, -MAX_SPEED, MAX_SPEED)
    return theta + speed * DT, speed, reward


def observe(xp, theta, speed):
    """`[..., 3]`: cosine, sine, speed."""
    return xp.stack([xp.cos(theta), xp.sin(theta), speed], axis=-1)
