"""One file per study: `measure(config, run, trained) -> list[Claim]`.

`trained()` gives the main runs, trained or restored at the first call.
"""
