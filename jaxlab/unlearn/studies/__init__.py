"""One file per study: `measure(config, run) -> list[Claim]`."""
