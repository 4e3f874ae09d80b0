"""Claims of the paper on data-starved bandits, measured: `run(config, run)`."""

import dataclasses

from jaxlab.bandits.studies import (
    coverage,
    gymnasium_tasks,
    need,
    one_good_arm,
    open_bandit,
    own_logs,
    pendulum_log,
    solver,
    starved,
)
from jaxlab.bandits.studies.methods import trust_config
from jaxlab.bandits.suprema import MODES
from jaxlab.runs import Claim, Run, check_choices, check_least, option

STUDIES = {
    "starved": starved.measure,
    "minimax": one_good_arm.measure_minimax,
    "need": need.measure,
    "logging": pendulum_log.measure,
    "gymnasium": gymnasium_tasks.measure,
    "coverage": coverage.measure,
    "solver": solver.measure,
    "junk": one_good_arm.measure_junk,
    "obd": open_bandit.measure,
    "own": own_logs.measure,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiments, and the user's own files."""

    experiment: str = option("all", "which study", choices=("all", *STUDIES))
    seed: int = option(0, "seed of everything that is drawn")
    delta: float = option(0.1, "probability that the penalties fail, and that LCB's bounds do")
    delta_ref: float = option(0.1, "probability that the reference's bound fails")
    num_radii: int = option(30, "trust regions that are tried")
    decay: float = option(1.2, "ratio of neighbouring radii")
    num_samples: int = option(2000, "Monte Carlo draws of a calibration")
    num_seeds: int = option(100, "logs over which values and certificates are averaged")
    num_arms: int = option(10_000, "arms of the data-starved bandit")
    fewer_arms: tuple[int, ...] = option((200, 1000, 4000), "further numbers of arms to show")
    max_count: int = option(20, "rewards per arm up to which LCB's need is looked for")
    minimax_logs: int = option(4000, "logs for each gap of the minimax problems")
    junk_counts: tuple[int, ...] = option((100, 1000), "rewards of the best arm among bad arms")
    coverage_arms: int = option(30, "arms of the coverage study")
    coverage_repeats: int = option(50, "calibrations in it")
    coverage_logs: int = option(200, "fresh logs for each")
    solver_arms: tuple[int, ...] = option((10, 100, 1000), "arms of the solver's check")
    width_arms: int = option(20_000, "arms of the width's check")
    width_samples: int = option(200, "suprema averaged there")
    logging_policies: int = option(200, "pendulum controllers that logged")
    logging_sigma: float = option(405.0, "deviation of a return, known where one was logged")
    truth_episodes: int = option(400, "episodes from which true values are taken")
    learned_logs: int = option(3, "logs on which cloning and CQL are trained")
    learned_steps: int = option(5000, "their Adam steps")
    cql_alphas: tuple[float, ...] = option((1.0, 5.0), "weights of CQL's conservative term")
    gym_policies: int = option(100, "policies that log in Gymnasium's environments")
    gym_logs: int = option(10, "logs there")
    log: str | None = option(None, "own log, .csv or .npz: arm, reward and perhaps propensity")
    returns: str | None = option(None, "own returns, .csv or .npz: policy_id, episode_return")
    minari: tuple[str, ...] = option((), "folders of Minari datasets, one per logging policy")
    sigma: float | None = option(
        None, "noise deviation of the own files; by default pooled, 1/2 if rewards are 0 and 1"
    )
    obd: str | None = option(None, "CSV of the Open Bandit Dataset, random policy")
    obd_fresh: str | None = option(None, "independent CSV of the same items, to look back")


PRESETS = {
    "smoke": Config(
        num_radii=24,
        decay=1.25,
        num_samples=400,
        num_seeds=20,
        num_arms=4000,
        fewer_arms=(200, 1000),
        minimax_logs=1000,
        coverage_repeats=30,
        coverage_logs=100,
        solver_arms=(10, 1000),
        width_arms=4000,
        width_samples=100,
        learned_logs=1,
        learned_steps=500,
        gym_policies=60,
        gym_logs=3,
    ),
    "small": Config(),
    "paper": Config(
        num_samples=20_000,
        num_seeds=1000,
        coverage_repeats=200,
        coverage_logs=1000,
        learned_logs=10,
        learned_steps=50_000,
        gym_policies=200,
        gym_logs=50,
    ),
}


_COUNTS = (
    "num_seeds",
    "num_arms",
    "minimax_logs",
    "coverage_arms",
    "coverage_logs",
    "width_arms",
    "width_samples",
    "logging_policies",
    "truth_episodes",
    "learned_logs",
    "learned_steps",
    "gym_policies",
    "gym_logs",
)


def run(config: Config, run: Run) -> list[Claim]:
    """Runs the chosen study, or all, and writes the claims.

    Raises:
      ValueError: an unknown study, sizes that make no sense, or a file that does not hold what it
        should.
      FileNotFoundError: no such file.
    """
    check_choices(config)
    check_least(config, dict.fromkeys(_COUNTS, 1) | {"coverage_repeats": 2, "max_count": 2})
    for name in ("junk_counts", "solver_arms"):
        if min(getattr(config, name), default=0) < 2:
            raise ValueError(f"{name} must hold numbers >= 2, got {getattr(config, name)}")
    if any(not 2 <= arms <= config.num_arms for arms in config.fewer_arms):
        raise ValueError(
            f"fewer_arms must lie between 2 and num_arms {config.num_arms}, got {config.fewer_arms}"
        )
    if config.gym_policies > config.logging_policies:
        raise ValueError(
            f"gym_policies must be at most logging_policies {config.logging_policies}, got "
            f"{config.gym_policies}"
        )
    for mode in MODES:
        trust_config(config, mode)  # refuses too few draws before anything is computed
    chosen = list(STUDIES) if config.experiment == "all" else [config.experiment]
    if config.experiment == "own" and not (config.log or config.returns or config.minari):
        raise ValueError("the study own needs --log, --returns or --minari")
    claims = [claim for name in chosen for claim in STUDIES[name](config, run)]
    return run.write_claims(claims)
