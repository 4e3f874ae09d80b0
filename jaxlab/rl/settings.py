"""Checks that the configs of several algorithms share."""


def check_networks(config) -> None:
    """Raises ValueError naming the field: as `check_sizes_and_rates`, and n_critics and tau."""
    check_sizes_and_rates(config)
    require(config, "n_critics", config.n_critics >= 1, "must be >= 1")
    require(config, "tau", 0 < config.tau <= 1, "must lie in (0, 1]")


def check_sizes_and_rates(config) -> None:
    """Raises ValueError naming the field: dims, hidden, gamma, learning rates."""
    for name in ("obs_dim", "act_dim"):
        require(config, name, getattr(config, name) >= 1, "must be >= 1")
    widths = config.hidden
    require(config, "hidden", bool(widths) and all(w >= 1 for w in widths), "needs widths >= 1")
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
