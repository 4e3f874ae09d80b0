import contextlib
import dataclasses
import json
import signal

import jax
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl import experiment
from jaxlab.rl.progress_log import ProgressLog
from jaxlab.rl.studies import learning, own, own_on_device, processes, update_rates
from jaxlab.runs import Run, latest_step
from tests.experiments import check_rows

TINY = dataclasses.replace(
    experiment.PRESETS["smoke"],
    transmission_seconds=0.05,
    transmission_rounds=1,
    batch_sizes=(16, 32),
    rate_hidden=(8, 8),
    rate_seconds=0.05,
    solve_seeds=1,
    solve_seconds=4.0,
    compare_sync=True,
    large_batch_seeds=0,
    speed_envs=4,
    speed_seconds=2.0,
)
ROWS = [f"C{i}" for i in range(1, 12)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("spreeze")
    with Run(workdir, TINY) as run, pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxlab.rl.studies.learning._MAX_UPDATES", 200)
        return workdir, experiment.run(TINY, run)


def test_every_row_is_measured(finished):
    workdir, claims = finished
    verdicts = check_rows(workdir, claims, ROWS)
    assert verdicts["C11"] == "pass"
    assert np.load(workdir / "results" / "devices.npz")["dual"] <= 1e-6
    assert [verdicts[row] for row in ("C7", "C8", "C10")] == ["not run"] * 3
    # Too short a run to judge, or even for the learner's first call to end.
    assert verdicts["C9"] in ("reported", "not run")
    assert len(list((workdir / "figures").glob("*.png"))) == 4


def test_a_restart_computes_only_what_is_missing(finished):
    workdir, claims = finished
    kept = (workdir / "results" / "devices.npz").stat().st_mtime_ns
    (workdir / "results" / "transmission.npz").unlink()
    with Run(workdir, TINY) as run:
        again = experiment.run(TINY, run)
    assert [a for a in again if a.id != "C2"] == [a for a in claims if a.id != "C2"]
    assert (workdir / "results" / "devices.npz").stat().st_mtime_ns == kept


@pytest.mark.parametrize("unsolved", [None, 5, 6])
def test_large_batches_pass_only_where_every_seed_solves_it(tmp_path, monkeypatch, unsolved):
    seeds = []

    def solve(seed, algorithm, layout, max_updates):
        seeds.append(seed)
        counts = {"updates": 100, "env_steps": 900, "seconds": 1.0, "compile_s": 1.0}
        reached = not (seed == unsolved and layout.n_envs == 64)
        curve = {"curve_updates": np.arange(2), "curve_return": np.zeros(2)}
        return counts | {"reached": reached} | curve

    monkeypatch.setattr(learning, "solve", solve)
    config = dataclasses.replace(TINY, seed=5, solve_seeds=1, large_batch_seeds=2)
    with Run(tmp_path, config) as run:
        *_, claim = learning.measure(config, run)
    assert seeds == [5, 5, 6, 5, 6]
    assert claim.verdict == ("pass" if unsolved is None else "fail")
    assert f"{int(unsolved is not None)} of 4 runs did not solve it" in claim.detail


def beside(**change):
    """What solving Pendulum with processes gave, where all were busy from the start to the end."""
    together = {
        "busy": {kind: np.array([[0.0, 9.0]]) for kind in processes._KINDS},
        "updates": 2000,
        "env_steps": 9000,
        "mean_return": -170.0,
        "stopped": "target_return",
        "seconds": 4.0,
        "load": 0.5,
        "processors": 8,
    }
    return together | change


@pytest.mark.parametrize(
    ("preset", "change", "verdict", "said"),
    [
        ("small", {}, "pass", "<= 0.8 of the time in turn, all solved."),
        ("small", {"seconds": 9.0}, "fail", "<= 0.8 of the time in turn, all solved."),
        ("small", {"seconds": 9.0, "load": 1.5}, "reported", "other work, a load of 1.5 > 1"),
        ("small", {"stopped": "max_seconds"}, "fail", "ended by max_seconds"),
        ("paper", {"seconds": 7.0}, "fail", "<= 0.5 of the time in turn, all solved."),
        ("paper", {"processors": 2}, "reported", "it asks for 8 processors, there are 2"),
    ],
)
def test_the_time_beside_each_other_is_judged(preset, change, verdict, said):
    config = experiment.PRESETS[preset]
    claim = processes._overlap(config, [beside(**change)] * 2, [{"seconds": 10.0}] * 2)
    assert claim.verdict == verdict
    assert said in claim.detail


@pytest.mark.parametrize("kind", ["sample", "update", "visualise"])
def test_each_process_must_be_busy_beside_an_evaluation(kind):
    config, together = experiment.PRESETS["smoke"], beside()
    assert processes._overlap(config, [together], []).verdict == "pass"
    together["busy"][kind] = np.array([[9.5, 10.0]])
    assert processes._overlap(config, [together], []).verdict == "fail"
    # No machine is too loaded for that.
    together["load"] = 5.0
    assert processes._overlap(config, [together], [{"seconds": 10.0}]).verdict == "fail"


@pytest.mark.parametrize(
    ("preset", "rate", "processors", "verdict"),
    [
        ("smoke", 49_000.0, 2, "fail"),
        ("small", 9000.0, 2, "pass"),
        ("paper", 14_000.0, 4, "fail"),
        ("paper", 15_000.0, 4, "pass"),
        ("paper", 14_000.0, 2, "reported"),
    ],
)
def test_the_rate_of_sampling_is_judged_by_the_preset(preset, rate, processors, verdict):
    full = {"sample_hz": rate, "sampler_s": 0.8, "update_hz": 3.0, "load": 1.0}
    config = experiment.PRESETS[preset]
    assert processes._sampling(config, full | {"processors": processors}).verdict == verdict


def test_the_use_of_processors_is_no_criterion_for_a_gpu():
    full = {"use": 0.95, "demand": 1.0, "load": 1.0}
    assert processes._utilisation(experiment.PRESETS["small"], full).verdict == "pass"
    claim = processes._utilisation(experiment.PRESETS["paper"], full)
    assert claim.verdict == "reported"
    assert "a GPU that is busy for 90%; that is not measured" in claim.detail


@pytest.mark.parametrize(
    ("backend", "rate", "verdict"),
    [("cpu", 9e6, "reported"), ("gpu", 9e6, "pass"), ("gpu", 1e6, "fail")],
)
def test_the_rate_of_updates_is_judged_on_a_gpu_by_its_own_goal(
    monkeypatch, backend, rate, verdict
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    judged, criterion = update_rates._judge_rate(
        experiment.PRESETS["paper"], rl.SACConfig(17, 6), rate, share=0.9
    )
    assert judged == verdict
    assert criterion.startswith(">= 3,700,000 Hz on a GPU")


@pytest.mark.parametrize(
    ("grid", "verdict", "share"),
    [
        ({1: (10.0, 100.0), 2: (19.0, 95.0), 4: (30.0, 50.0)}, "pass", "100%"),
        ({1: (23.0, 100.0), 2: (19.0, 95.0), 4: (30.0, 50.0)}, "fail", "83%"),
        ({1: (10.0, 100.0), 2: (19.0, 70.0), 4: (30.0, 50.0)}, "fail", "0%"),
    ],
)
def test_tuned_samplers_are_held_against_a_grid_measured_anew(
    tmp_path, monkeypatch, grid, verdict, share
):
    tuning = {1: (10.0, 100.0), 2: (19.0, 95.0), 4: (30.0, 50.0)}
    asked = []

    @contextlib.contextmanager
    def live(algorithm, host, most):
        assert (host.batch_size, most) == (32, 4)

        def measure(n, seconds):
            asked.append(n)
            return (tuning if len(asked) <= 3 else grid)[n]

        yield measure

    class Meter:
        def __init__(self, *args):
            pass

        def seconds_of_a_call(self, *args):
            return 0.0

    rates = {
        "chosen": np.array(32),
        "sizes": np.array([16, 32]),
        "grid": np.array([1e5, 2e5]),
        "cpu_grid": np.array([1e5, 2e5]),
        "matmul_flops": np.array(1e11),
        "load": np.array(0.5),
    }
    monkeypatch.setattr(update_rates, "_tune_and_sweep", lambda *args: rates)
    monkeypatch.setattr(update_rates, "live_rates", live)
    monkeypatch.setattr(update_rates, "RateMeter", Meter)
    config = dataclasses.replace(TINY, rate_samplers=(1, 2, 4))
    with Run(tmp_path, config) as run:
        claim, _ = update_rates.measure(config, run)
    assert asked == [1, 2, 4, 4, 2, 1]
    assert claim.verdict == verdict
    assert claim.measured.endswith(f"; samplers 2: {share}")


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_training_leaves_a_policy_that_plays_without_jax(tmp_path, algo):
    config = dataclasses.replace(
        TINY,
        experiment="train",
        algo=algo,
        mode="sync",
        hidden=(8, 8),
        batch_size=16,
        capacity=1000,
        warmup_steps=32,
        max_updates=16,
        eval_episodes=2,
    )
    with Run(tmp_path, config) as run:
        (claim,) = experiment.run(config, run)
        rows = run.metrics()
    assert claim.verdict == "reported"
    assert "16 updates" in claim.measured
    assert {"mean_return", "sample_hz", "update_frame_hz"} <= set(rows[-1])
    (events,) = (tmp_path / "tensorboard").glob("events*")
    assert b"sample_hz" in events.read_bytes()
    artifacts = tmp_path / "artifacts"
    params = rl.load_policy(artifacts / "policy.npz")
    assert json.loads((artifacts / "policy.json").read_text())["hidden"] == [8, 8]
    assert {"mean", "Dense_0", "Dense_1"} <= params.keys()
    assert params["mean"].keys() == {"kernel", "bias"}
    if algo == "sac":
        obs = np.ones((2, 3), np.float32)
        want = rl.actor_apply(params, obs, rl.SACConfig(3, 1, (8, 8)))
        for ours, jaxs in zip(rl.numpy_actor(params, obs), want, strict=True):
            np.testing.assert_allclose(ours, jax.device_get(jaxs), rtol=1e-5, atol=1e-6)


def test_ddpg_is_made_of_the_same_settings():
    config = dataclasses.replace(TINY, algo="ddpg", hidden=(8, 8), lr=1e-3, gamma=0.9, tau=0.02)
    want = rl.ddpg_config(3, 1, hidden=(8, 8), gamma=0.9, tau=0.02, actor_lr=1e-3, critic_lr=1e-3)
    assert own.make_algorithm(config, 3, 1) == want


ON_DEVICE = dataclasses.replace(
    TINY,
    experiment="train",
    mode="ondevice",
    hidden=(8, 8),
    envs_per_sampler=4,
    batch_size=16,
    updates_per_call=2,
    capacity=200,
    warmup_steps=8,
    rollout_steps=8,
    epochs=2,
    minibatches=2,
    eval_every_iters=4,
    eval_episodes=2,
    max_updates=40,
    checkpoint_every_s=1e-9,
)


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_training_on_the_device_resumes_exactly(tmp_path, monkeypatch, algo):
    config = dataclasses.replace(ON_DEVICE, algo=algo)
    with Run(tmp_path / "whole", config) as run:
        whole = experiment.run(config, run)
        rows = run.metrics()
    assert len(rows) >= 3
    assert {"mean_return", "env_steps", "critic_loss"} <= set(rows[-1])

    evaluate, calls = own_on_device.evaluate_policy, []

    def die(*args):
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError("killed")
        return evaluate(*args)

    monkeypatch.setattr(own_on_device, "evaluate_policy", die)
    with Run(tmp_path / "cut", config) as run, pytest.raises(MemoryError):
        experiment.run(config, run)
    monkeypatch.setattr(own_on_device, "evaluate_policy", evaluate)
    with Run(tmp_path / "cut", config) as run:
        assert experiment.run(config, run)[0].measured == whole[0].measured
        assert run.metrics() == rows
    leaves = (np.load(tmp_path / x / "artifacts" / "policy.npz") for x in ("whole", "cut"))
    one, other = leaves
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_the_state_on_the_device_is_donated(algo):
    config = dataclasses.replace(ON_DEVICE, algo=algo)
    env = rl.make_env("pendulum")
    state, advance, _ = own_on_device._prepare(config, own.make_algorithm(config, 3, 1), env)
    advance(state)
    assert state.obs.is_deleted()
    assert state.learner.actor["mean"]["kernel"].is_deleted()


def test_evaluations_on_the_device_have_a_key_of_their_own(tmp_path, monkeypatch):
    keys = []

    def look(key, *args):
        keys.append(key)
        raise MemoryError("enough")

    monkeypatch.setattr(own_on_device, "evaluate_policy", look)
    with Run(tmp_path, ON_DEVICE) as run, pytest.raises(MemoryError):
        experiment.run(ON_DEVICE, run)
    root = jax.random.key(ON_DEVICE.seed)
    # What the environments, the learner and the steps start from.
    taken = np.asarray(jax.random.key_data(jax.random.split(root, 3))).tolist()
    assert jax.random.key_data(keys[0]).tolist() not in taken


def test_an_interrupt_on_the_device_leaves_a_checkpoint_to_go_on_from(tmp_path, monkeypatch):
    config = dataclasses.replace(ON_DEVICE, checkpoint_every_s=1e9)
    with Run(tmp_path / "whole", config) as run:
        whole = experiment.run(config, run)
    evaluate, calls = own_on_device.evaluate_policy, []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(*args)

    monkeypatch.setattr(own_on_device, "evaluate_policy", interrupt)
    with Run(tmp_path / "cut", config) as run, pytest.raises(SystemExit):
        experiment.run(config, run)
    monkeypatch.setattr(own_on_device, "evaluate_policy", evaluate)
    assert latest_step(tmp_path / "cut" / "checkpoints" / "on_device") is not None
    with Run(tmp_path / "cut", config) as run:
        assert experiment.run(config, run)[0].measured == whole[0].measured


def test_environments_of_a_module_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium\n"
        "if 'Mine-v0' not in gymnasium.registry:\n"
        "    gymnasium.register(\n"
        "        'Mine-v0', 'gymnasium.envs.classic_control.pendulum:PendulumEnv',\n"
        "        max_episode_steps=50,\n"
        "    )\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = dataclasses.replace(
        ON_DEVICE,
        mode="sync",
        env_id="gym:Mine-v0",
        import_module="my_envs",
        max_updates=4,
        max_seconds=60.0,
    )
    with Run(tmp_path / "run", config) as run:
        (claim,) = experiment.run(config, run)
    assert "4 updates" in claim.measured


def test_a_run_is_fitted_once_to_each_machine(tmp_path, monkeypatch):
    tuned, trained = [], []

    def tune(algorithm, host, **candidates):
        tuned.append(candidates)
        return dataclasses.replace(host, batch_size=32, n_samplers=2), {"rates": {32: 1.0}}

    def train(key, algorithm, host, *args, **settings):
        trained.append(host)
        raise MemoryError("enough")

    monkeypatch.setattr(own, "autotune", tune)
    monkeypatch.setattr(own, "train_host", train)
    config = dataclasses.replace(ON_DEVICE, mode="async", autotune=True, sampler_counts=(1, 2, 3))

    def fit(options):
        with Run(tmp_path, config) as run, pytest.raises(MemoryError):
            experiment.run(config, run, options)

    fit(experiment.Options())
    fit(experiment.Options())
    assert len(tuned) == 1
    assert tuned[0]["samplers"] == (1, 2, 3)
    last = trained[-1]
    assert (last.batch_size, last.n_samplers, last.max_samplers) == (32, 2, 3)
    fit(experiment.Options(retune=True))
    assert len(tuned) == 2
    monkeypatch.setattr(own.socket, "gethostname", lambda: "another")
    fit(experiment.Options())
    fit(experiment.Options())
    assert len(tuned) == 3
    (first, second) = (tmp_path / "artifacts").glob("autotune_*.json")
    machines = {json.loads(x.read_text())["fitted_to"][0] for x in (first, second)}
    assert "another" in machines
    assert len(machines) == 2


def test_rates_are_those_after_compilation(monkeypatch):
    clock = iter([3.0, 3.25])
    log = ProgressLog(None, 10, 100, 0)
    monkeypatch.setattr(log, "seconds", lambda: next(clock))
    log.measure_from(1100, 4)
    log.measure_from(5000, 400)
    log.measure_to(2100, 104)
    assert log.throughput() == (4000.0, 400.0, 4000.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algo": "td3"}, "mode 'ondevice' trains sac, ppo, got algo 'td3'"),
        ({"algo": "ppo", "mode": "async"}, "mode 'async' trains sac, td3, ddpg, got algo 'ppo'"),
        ({"env_id": "gym:Hopper-v5"}, "env must be one of pendulum, got 'gym:Hopper-v5'"),
        ({"autotune": True}, "not ondevice"),
    ],
)
def test_refuses_what_a_mode_does_not_have(tmp_path, settings, message):
    config = dataclasses.replace(ON_DEVICE, **settings)
    with Run(tmp_path, config) as run, pytest.raises(ValueError, match=message):
        experiment.run(config, run)


def test_refuses(tmp_path):
    config = dataclasses.replace(TINY, experiment="everything")
    with Run(tmp_path, config) as run, pytest.raises(ValueError, match="experiment"):
        experiment.run(config, run)
