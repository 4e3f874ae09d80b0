import ast

import pytest

from tests.two_processes import run_two

pytestmark = pytest.mark.slow

SCRIPT = """
    import sys
    from jaxlab import parallel
    assert parallel.start_distributed()
    import chex, jax, numpy as np
    from jaxlab import rl
    from jaxlab.rl.data_parallel import largest_over_processes
    from jaxlab.rl.host_state import DRAW, EVALUATE, SAMPLE, fresh_state, seed_of
    from jaxlab.rl.learner import learn_from_rows
    from jaxlab.rl.placement import make_placement
    from jaxlab.rl.shared_replay import ReplaySpec
    from jaxlab.runs import enable_compilation_cache

    enable_compilation_cache()
    number, folder = jax.process_index(), sys.argv[1]
    assert (jax.process_count(), jax.local_device_count()) == (2, 2)
    assert largest_over_processes([number, 5 - number, 0]) == [1, 5, 0]

    # Two updates of eight rows: as one device takes them.
    config = rl.SACConfig(3, 1, (8, 8))
    width = ReplaySpec(1, 3, 1).width
    rows = np.random.default_rng(0).normal(size=(2, 8, width)).astype(np.float32)
    rows[..., -1] = 0
    key = jax.random.key(7)
    one, one_metrics = learn_from_rows(key, rl.sac_init(key, config), rows, config)
    placement = make_placement(config, "pmap", 8)
    many = placement.spread(rl.sac_init(key, config))
    many, metrics = placement.learn(key, many, rows[:, 4 * number : 4 * number + 4])
    got = jax.device_get(placement.gather(many))
    chex.assert_trees_all_close(got, jax.device_get(one), atol=1e-5)
    for name, value in one_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5)
    for settings, message in (({"mode": "async"}, "several processes"), ({}, "multiple of the 4")):
        try:
            make_placement(config, settings.get("mode", "pmap"), 6)
        except ValueError as error:
            assert message in str(error)
        else:
            raise AssertionError(message)

    host = rl.HostConfig(
        mode="pmap", envs_per_sampler=4, batch_size=16, updates_per_call=4, capacity=2000,
        warmup_steps=40, eval_every_s=0.5, eval_episodes=2, max_seconds=5000.0, max_updates=24,
    )
    state = fresh_state(key, config, host)
    seeds = [seed_of(state, purpose) for purpose in (SAMPLE, DRAW, EVALUATE)]
    first = rl.train_host(key, config, host, folder)
    assert (first.updates, first.stopped) == (24, "max_updates"), first
    import dataclasses
    more = rl.train_host(key, config, dataclasses.replace(host, max_updates=32), folder)
    assert more.updates == 32, more
    assert more.env_steps >= first.env_steps > 0
    # The first one's time is over first, and the other stops with it.
    hasty = dataclasses.replace(host, max_updates=None, max_seconds=10_000.0 * number + 20.0)
    last = rl.train_host(key, config, hasty)
    assert last.stopped == "max_seconds"
    total = sum(float(abs(x).sum()) for x in jax.tree.leaves(more.learner.actor))
    print("RESULT", seeds, total, last.updates)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder, and what each of two processes with two devices printed at the end."""
    folder = tmp_path_factory.mktemp("together")
    outputs = run_two(SCRIPT, folder)
    results = [output[output.index("RESULT") :].split("]") for output in outputs]
    pairs = [(ast.literal_eval(seeds.split(" ", 1)[1] + "]"), rest) for seeds, rest in results]
    return folder, pairs


def test_they_learn_alike_and_sample_differently(finished):
    _, ((seeds, result), (other_seeds, other_result)) = finished
    assert result == other_result, "parameters, and updates until the common end"
    assert seeds[0] != other_seeds[0]
    assert seeds[1] != other_seeds[1]
    assert seeds[2] == other_seeds[2], "evaluations start from the same states"


def test_the_first_writes(finished):
    folder, _ = finished
    assert {x.name for x in folder.iterdir()} == {
        "checkpoint",
        "metrics.jsonl",
        "process_0.npz",
        "process_1.npz",
    }
