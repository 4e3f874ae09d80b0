"""Fields and checks that the configs of several algorithms share."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes of an environment and of the networks for it.

    Attributes:
      obs_dim, act_dim: O and A.
      hidden: widths of every network.

    Raises:
      ValueError: a value out of range, by name.
    """

    obs_dim: int
    act_dim: int
    hidden: tuple[int, ...] = (256, 256)

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name in ("obs_dim", "act_dim"):
            require(self, name, getattr(self, name) >= 1, "must be >= 1")
        widths = self.hidden
        require(self, "hidden", bool(widths) and all(w >= 1 for w in widths), "needs widths >= 1")


@dataclasses.dataclass(frozen=True)
class OffPolicyConfig(NetworkConfig):
    """What learners from a ring share: critics of actions that slow targets follow.

    Attributes:
      n_critics: C; the smallest of their target values counts.
      gamma: discount.
      tau: how far the targets follow at each of their updates.
      actor_lr, critic_lr: Adam's rates.
    """

    n_critics: int = 2
    gamma: float = 0.99
    tau: float = 0.005
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4

    def __post_init__(self):
        super().__post_init__()
        check_discount_and_rates(self)
        require(self, "n_critics", self.n_critics >= 1, "must be >= 1")
        require(self, "tau", 0 < self.tau <= 1, "must lie in (0, 1]")


def check_discount_and_rates(config) -> None:
    """Raises ValueError naming the field: gamma, learning rates."""
    require(config, "gamma", 0 <= config.gamma <= 1, "must lie in [0, 1]")
    for name in ("actor_lr", "critic_lr"):
        require(config, name, getattr(config, name) > 0, "must be positive")


def check_log_std(config) -> None:
    """Raises ValueError where the range of the log standard deviation is empty."""
    require(
        config,
        "log_std_min",
        config.log_std_min < config.log_std_max,
        f"must be below log_std_max {config.log_std_max}",
    )


def require(config, name: str, holds: bool, what: str) -> None:
    """Raises ValueError with the field and its value unless `holds`."""
    if not holds:
        raise ValueError(f"{name} {what}, got {getattr(config, name)}")
