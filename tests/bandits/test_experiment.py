import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxlab.bandits import experiment
from jaxlab.bandits.studies import open_bandit
from jaxlab.runs import Run
from tests.experiments import check_restart, check_rows

TINY = dataclasses.replace(
    experiment.PRESETS["smoke"],
    num_arms=400,
    fewer_arms=(50,),
    num_radii=12,
    decay=1.5,
    num_samples=200,
    num_seeds=4,
    max_count=3,
    minimax_logs=100,
    junk_counts=(50,),
    coverage_arms=10,
    coverage_repeats=4,
    coverage_logs=20,
    solver_arms=(5, 100),
    width_arms=2000,
    width_samples=100,
    logging_policies=20,
    truth_episodes=20,
    learned_steps=20,
    gym_policies=6,
    gym_logs=2,
)
ROWS = ["C1", "C2", "C3", "C4", "C5", "C6", "C6-rl", "C6-gym", "C7", "C8", "C9", "C10", "C11"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("bandits")
    with Run(workdir, TINY) as run:
        return workdir, experiment.run(TINY, run)


def test_every_row_is_measured(finished):
    workdir, claims = finished
    verdicts = check_rows(workdir, claims, ROWS)
    assert [verdicts[row] for row in ("C8", "C9", "C10")] == ["pass"] * 3
    assert verdicts["C11"] == "not run"
    for row in ("C1", "C2", "C3", "C5"):
        assert verdicts[row] == "reported"  # the criteria are for thousands of arms
    assert len(list((workdir / "figures").glob("*.png"))) == 9


def test_a_restart_computes_only_what_is_missing_and_ends_the_same(finished):
    removed = ["need", "pendulum"]
    check_restart(experiment, TINY, *finished, removed=removed, kept="junk")


def run_with(workdir, **changes):
    config = dataclasses.replace(TINY, **changes)
    with Run(workdir, config) as run:
        return experiment.run(config, run)


def test_own_log_gives_a_policy_and_its_certificate(tmp_path):
    rng = np.random.default_rng(0)
    arm = np.repeat(np.arange(300), 2)
    reward = (arm < 150) + 0.5 * rng.normal(size=arm.size)
    np.savez(tmp_path / "log.npz", arm=arm, reward=reward)
    (claim,) = run_with(
        tmp_path / "run", experiment="own", log=str(tmp_path / "log.npz"), sigma=0.5
    )
    assert claim.id == "own-log"
    assert claim.verdict == "reported"
    artifacts = tmp_path / "run" / "artifacts"
    certificate = json.loads((artifacts / "log_certificate.json").read_text("utf-8"))
    with np.load(artifacts / "log_policy.npz") as saved:
        policy = saved["policy"]
    np.testing.assert_allclose(policy.sum(), 1, rtol=1e-4)
    assert certificate["method"] == "TRUST"
    assert certificate["lower_bound"] <= policy[:150].sum()
    assert certificate["lower_bound"] > certificate["trust"]["reference_lower_bound"]
    assert certificate["noise_deviation"] == 0.5
    assert certificate["noise_from"] == "given"


def test_clicks_get_a_bound_for_any_rate_and_changing_propensities_a_warning(tmp_path):
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 20, 500)
    rows = [f"{a},{int(rng.uniform() < 0.05)},{rng.uniform(0.1, 0.3)}" for a in arm]
    (tmp_path / "log.csv").write_text("\n".join(["arm,reward,propensity", *rows]))
    (claim,) = run_with(tmp_path / "run", experiment="own", log=str(tmp_path / "log.csv"))
    assert "Noise deviation 0.5 (Hoeffding" in claim.detail
    assert "NOT VALID" in claim.detail


def test_own_returns(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    policy_id = np.repeat(np.arange(20), 3)
    episode_return = 10.0 * (policy_id % 2) + rng.normal(size=60)
    np.savez(tmp_path / "r.npz", policy_id=policy_id, episode_return=episode_return)
    (claim,) = run_with(tmp_path / "run", experiment="own", returns=str(tmp_path / "r.npz"))
    assert claim.id == "own-returns"
    assert "pooled within policies" in claim.detail
    with np.load(tmp_path / "run" / "artifacts" / "returns_policy.npz") as saved:
        assert saved["policy"][1::2].sum() > 0.99
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    run_with(tmp_path / "second", experiment="own", returns=str(tmp_path / "r.npz"))
    assert not (tmp_path / "second").exists()  # another process than the first writes nothing


def test_open_bandit_row(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = [f"{i},{rng.integers(0, 20)},1,{int(i % 150 == 0)},0.05" for i in range(3000)]
    path = tmp_path / "all.csv"
    path.write_text("\n".join([",item_id,position,click,propensity_score", *rows]))
    files = {"obd": str(path), "obd_fresh": str(path)}
    (claim,) = run_with(tmp_path / "run", experiment="obd", **files)
    assert claim.verdict == "pass"
    assert "An independent log has" in claim.detail

    def anew(*_):
        raise AssertionError("decided anew")

    monkeypatch.setattr(open_bandit, "_decide", anew)
    assert run_with(tmp_path / "run", experiment="obd", **files) == [claim]
    path.write_text("\n".join([",item_id,position,click,propensity_score", *rows[1:]]))
    with pytest.raises(AssertionError, match="decided anew"):
        run_with(tmp_path / "run", experiment="obd", **files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "other"}, "experiment must be one of all, starved"),
        ({"num_seeds": 0}, "num_seeds must be >= 1, got 0"),
        ({"coverage_repeats": 1}, "coverage_repeats must be >= 2, got 1"),
        ({"fewer_arms": (1,)}, r"fewer_arms must lie between 2 and num_arms 400, got \(1,\)"),
        ({"junk_counts": ()}, r"junk_counts must hold numbers >= 2, got \(\)"),
        ({"num_samples": 50}, "num_samples must be >= 119"),
        ({"gym_policies": 21}, "gym_policies must be at most logging_policies 20, got 21"),
        ({"experiment": "own"}, "needs --log, --returns or --minari"),
    ],
)
def test_refuses(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_with(tmp_path, **change)
