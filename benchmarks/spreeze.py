"""SAC beside stable-baselines3, SBX and RLlib: updates per second, and time to a solved Pendulum.

    python benchmarks/spreeze.py --workdir=out/benchmarks/spreeze \
        --sbx_python=SBX/bin/python --rllib_python=RLLIB/bin/python

All sides get one processor and one thread, the same networks, rates and batches. Writes the claims
C7 and C8, and of each a row for every other peer. A peer runs in a process of its own, by the
interpreter that its flag names, or by this one; where it is not installed its rows are "not run".
An environment for each, since their needs differ from ours:

    python -m venv SB3 && SB3/bin/pip install torch==2.13.0
    SB3/bin/pip install stable-baselines3 "gymnasium[classic-control]"
    python -m venv SBX && SBX/bin/pip install torch==2.13.0
    SBX/bin/pip install sbx-rl "gymnasium[classic-control]"
    python -m venv RLLIB && RLLIB/bin/pip install torch==2.13.0
    RLLIB/bin/pip install "ray[rllib]" "gymnasium[classic-control]"
"""

import contextlib
import functools
import os

import harness
import jax
import numpy as np
from peers.process import PeerProcess

from jaxlab import rl
from jaxlab.rl.learner import learn_from_rows
from jaxlab.rl.sampler import take_step
from jaxlab.rl.studies.solving import EPISODES, GOAL, solve
from jaxlab.runs import Claim, holds, spread

UPDATES, STEPS, BATCH = 16, 64, 256
CALLS = {"updates": "update", "training": "train"}  # the peer's name for what is compared
LR, TAU = 3e-3, 0.01
EVALUATE_EVERY, MOST_STEPS = 500, 10_000
SB3, SBX, RLLIB = "stable-baselines3", "SBX", "RLlib"
SCRIPTS = {SB3: ("sac_sb3.py",), SBX: ("sac_sb3.py", "sbx"), RLLIB: ("sac_rllib.py",)}
SIZES = SMALL, LARGE = (64, 64), (256, 256)


def main():
    arguments = harness.parse_arguments(
        __doc__.splitlines()[0], seeds=3, sb3_python="", sbx_python="", rllib_python=""
    )
    harness.keep_to_processors(1)  # which the peers inherit
    pythons = {
        SB3: arguments.sb3_python,
        SBX: arguments.sbx_python,
        RLLIB: arguments.rllib_python,
    }
    rows, missing = {}, {}
    with contextlib.ExitStack() as stack:
        peers = {}
        for name, python in pythons.items():
            try:
                peers[name] = stack.enter_context(start_peer(name, python))
            except ImportError as error:
                missing[name] = f"{error}; see the head of benchmarks/spreeze.py."
        for name, peer in peers.items():
            for hidden in SIZES:
                rows[name, hidden] = rows_beside(peer, name, hidden, arguments.rounds)
        times = solving_times(
            {name: peers[name] for name in (SB3, SBX) if name in peers}, arguments.seeds
        )
    claims = [
        throughput_claim(rows, missing),
        sbx_claim(rows, missing),
        rllib_claim(rows, missing),
        time_claim(times, missing),
        sbx_time_claim(times, missing),
    ]
    table = [row for pair in rows.values() for row in pair.values()]
    harness.publish("SAC beside its peers", table, claims, arguments.workdir)


def start_peer(name: str, python: str) -> PeerProcess:
    """A peer's process.

    Raises:
      ImportError: it is not installed, and nobody named an interpreter that should have it.
      SystemExit: the interpreter that was named lacks it.
    """
    script, *settings = SCRIPTS[name]
    try:
        return PeerProcess(script, python, *settings)
    except (ImportError, FileNotFoundError) as error:
        if python:
            raise SystemExit(f"{python} does not run {name}: {error}") from error
        raise


def make_config(hidden) -> rl.SACConfig:
    return rl.SACConfig(3, 1, hidden, tau=TAU, actor_lr=LR, critic_lr=LR, alpha_lr=LR)


def make_peer(peer: PeerProcess, hidden, seed: int = 0) -> None:
    """Has a peer make its learner with our sizes."""
    peer.ask("make", hidden=hidden, lr=LR, tau=TAU, batch_size=BATCH, seed=seed)


def rows_beside(peer: PeerProcess, name: str, hidden, rounds: int) -> dict[str, harness.Row]:
    """Updates alone, and training: as many steps of the environment as updates."""
    make_peer(peer, hidden)
    peer.ask("warm_up")
    with rl.SharedReplay.create(rl.ReplaySpec(2048, 3, 1)) as ring:
        sides = {
            "updates": (UPDATES, updates_alone(ring, hidden), {"batch_size": BATCH}),
            "training": (STEPS, training(hidden), {}),
        }
        return {
            what: row_of(
                harness.side_by_side(
                    f"{what}, {hidden[0]} x {hidden[1]}, B {BATCH}",
                    ours,
                    functools.partial(peer.measure, CALLS[what], count=count, **settings),
                    f"{name} {peer.version}",
                    rounds=rounds,
                    clock="cpu",
                    peer_measures=True,
                ),
                count,
            )
            for what, (count, ours, settings) in sides.items()
        }


def updates_alone(ring: rl.SharedReplay, hidden):
    """A call of `UPDATES` updates with rows drawn from a ring of as many as the peer's, 1,000."""
    config = make_config(hidden)
    key = jax.random.key(0)
    state = rl.sac_init(key, config)
    rng = np.random.default_rng(0)
    env = rl.make_vec_env("numpy:pendulum", 100)
    obs = env.reset()
    for step in range(10):
        batch, obs = take_step(env, obs, None, rng, step)
        ring.write(0, batch)

    def call():
        nonlocal state
        packed = ring.sample_packed(rng, UPDATES * BATCH)
        block = packed.reshape(UPDATES, BATCH, -1)
        state, metrics = learn_from_rows(key, state, block, config)
        return metrics["critic_loss"]

    return call


def training(hidden):
    """A call of `STEPS` steps and updates on the device, 16 at a time."""
    config, env = make_config(hidden), rl.make_env("pendulum")
    layout = rl.OnDeviceConfig(n_envs=16, updates_per_iter=16, capacity=10_000, warmup_steps=0)
    state = rl.ondevice_init(jax.random.key(0), env, config, layout)
    advance = jax.jit(rl.ondevice_run, static_argnums=(1, 2, 3, 4), donate_argnums=0)

    def call():
        nonlocal state
        state, metrics = advance(state, env, config, layout, STEPS // 16)
        return metrics["critic_loss"]

    return call


def row_of(row: harness.Row, count: int) -> harness.Row:
    """With the updates per second of both sides, by either clock."""
    ours, theirs, ours_wall, theirs_wall = (
        count / seconds for seconds in (row.ours_cpu_s, row.peer_cpu_s, row.ours_s, row.peer_s)
    )
    note = (
        f"{ours:,.0f} and {theirs:,.0f} updates per processor second, {ours_wall:,.0f} and "
        f"{theirs_wall:,.0f} of wall"
    )
    return row._replace(note=note)


def compared(rows, name: str) -> str:
    """The ratios by size of networks and by what is done."""
    return "; ".join(
        f"networks of {hidden[0]}: {rows[name, hidden]['updates'].speedup:.1f}x, with steps of the "
        f"environment {rows[name, hidden]['training'].speedup:.1f}x"
        for hidden in SIZES
    )


def described(rows, name: str) -> str:
    """The rates behind the ratios, and the machine's load."""
    listed = "; ".join(row.name + ": " + row.note for x in SIZES for row in rows[name, x].values())
    return (
        f"Updates per processor second, one thread each. {listed}. Load average "
        f"{os.getloadavg()[0]:.1f}."
    )


def throughput_claim(rows, missing) -> Claim:
    statement = "An order of magnitude more throughput than mainstream frameworks"
    if SB3 in missing:
        return Claim("C7", statement, "10x", "", "not run", detail=missing[SB3])
    small, large = (rows[SB3, hidden]["updates"].speedup for hidden in SIZES)
    verdict = holds(small >= 8 and large >= 1.8 and (SBX in missing or sbx_holds(rows)))
    if verdict == "pass" and SBX in missing:
        verdict = "not run"
    return Claim(
        "C7",
        statement,
        "10x",
        compared(rows, SB3),
        verdict,
        detail=f"Against stable-baselines3. {described(rows, SB3)} At 256 both are bound by "
        "arithmetic. Criterion, of updates alone: >= 8x and >= 1.8x; and 3x SBX with networks of "
        "64 (C7-SBX), without which the row cannot pass.",
    )


def sbx_holds(rows) -> bool:
    """Whether its part of the criterion does."""
    return rows[SBX, SMALL]["training"].speedup >= 3


def sbx_claim(rows, missing) -> Claim:
    statement = "More throughput than SBX, which is written in JAX, too"
    if SBX in missing:
        return Claim("C7-SBX", statement, "", "", "not run", detail=missing[SBX])
    return Claim(
        "C7-SBX",
        statement,
        "",
        compared(rows, SBX),
        holds(sbx_holds(rows)),
        detail=f"{described(rows, SBX)} {UPDATES} updates in one call are one compiled loop on "
        "both sides; in training it makes one a step. Criterion, of training: >= 3x at 64.",
    )


def rllib_claim(rows, missing) -> Claim:
    statement = "More throughput than RLlib"
    if RLLIB in missing:
        return Claim("C7-RLlib", statement, "10x", "", "not run", detail=missing[RLLIB])
    return Claim(
        "C7-RLlib",
        statement,
        "10x",
        compared(rows, RLLIB),
        "reported",
        detail=f"{described(rows, RLLIB)} Its own services run in further processes, whose time is "
        "not counted.",
    )


def solving_times(peers: dict[str, PeerProcess], seeds: int) -> dict[str, list[dict]]:
    """What each seed took to solve Pendulum, by side, in turn."""
    config, layout = make_config(SMALL), rl.OnDeviceConfig()
    found = {name: [] for name in ("ours", *peers)}
    for seed in range(seeds):
        jax.clear_caches()  # every seed compiles, as the first does
        found["ours"].append(solve(seed, config, layout, 8000))
        for name, peer in peers.items():
            make_peer(peer, SMALL, seed)
            settings = {"every": EVALUATE_EVERY, "most": MOST_STEPS}
            found[name].append(peer.ask("solve", goal=GOAL, episodes=EPISODES, **settings))
    return found


def totals(times, name: str) -> dict[str, np.ndarray]:
    """Its numbers as arrays over seeds."""
    first = times[name][0]
    return {
        key: np.array([x[key] for x in times[name]]) for key in first if not np.ndim(first[key])
    }


def time_claim(times, missing) -> Claim:
    statement = "Training takes 73% less time"
    if SB3 in missing:
        return Claim("C8", statement, "0.27 of the time", "", "not run", detail=missing[SB3])
    ours, theirs = totals(times, "ours"), totals(times, SB3)
    bare = ours["seconds"]
    whole = bare + ours["compile_s"]
    whole_cpu = ours["cpu_s"] + ours["compile_cpu_s"]
    peer, peer_cpu = theirs["wall_s"].mean(), theirs["cpu_s"].mean()
    share, share_whole = bare.mean() / peer, whole.mean() / peer
    solved = ours["reached"].all() and theirs["reached"].all()
    return Claim(
        "C8",
        statement,
        "0.27 of the time",
        f"{share:.2f} of the peer's time, {share_whole:.2f} with compilation",
        holds(solved and share <= 0.27 and share_whole <= 0.8),
        detail=f"Pendulum-v1 to {GOAL:g} over {EPISODES} starts, {len(bare)} seeds, evaluation not "
        f"counted on the peer's side: ours {spread(bare):.1f} s, {spread(ours['compile_s']):.1f} s "
        f"of compilation before, {ours['env_steps'].mean():,.0f} steps; theirs "
        f"{spread(theirs['wall_s']):.1f} s, {theirs['env_steps'].mean():,.0f} steps. By processor "
        f"seconds {ours['cpu_s'].mean() / peer_cpu:.2f} and {whole_cpu.mean() / peer_cpu:.2f} of "
        f"their {peer_cpu:.1f} s. Load average {os.getloadavg()[0]:.1f}. Criterion: <= 0.27 and "
        "<= 0.8.",
    )


def sbx_time_claim(times, missing) -> Claim:
    statement = "Training takes less time than with SBX"
    if SBX in missing:
        return Claim("C8-SBX", statement, "", "", "not run", detail=missing[SBX])
    ours, theirs = totals(times, "ours"), totals(times, SBX)
    bare = ours["seconds"]
    compiled = bare + ours["compile_s"]
    measured = f"{compiled[0] / theirs['wall_s'][0]:.2f} of the peer's time where both compile"
    if len(bare) > 1:
        later = bare[1:].mean() / theirs["wall_s"][1:].mean()
        measured += f", {later:.2f} where neither does"
    listed = ", ".join(f"{seconds:.1f}" for seconds in theirs["wall_s"])
    return Claim(
        "C8-SBX",
        statement,
        "",
        measured,
        "reported",
        detail=f"As C8: theirs {listed} s by seed, of which the first compiles, and "
        f"{theirs['env_steps'].mean():,.0f} steps.",
    )


if __name__ == "__main__":
    main()
