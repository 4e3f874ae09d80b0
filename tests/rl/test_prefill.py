import jax
import numpy as np
import pytest

from jaxlab import rl
from jaxlab.rl.prefill import filled_ring
from tests.rl.problem import ACT, OBS, batch
from tests.rl.test_host import CONFIG, SMALL


def test_actions_are_scaled_to_the_unit_box(tmp_path):
    rows = batch(rows=9)
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 10.0])
    action = low + (rows.action + 1) / 2 * (high - low)
    path = tmp_path / "rows.npz"
    np.savez(path, **rows._replace(action=action)._asdict(), action_low=low, action_high=high)
    got = rl.read_transitions(path, OBS, ACT)
    for ours, want in zip(got, rows, strict=True):
        np.testing.assert_allclose(ours, want, atol=1e-6)
        assert ours.dtype == np.float32
    np.savez(path, **rows._asdict())
    np.testing.assert_array_equal(rl.read_transitions(path, OBS, ACT).action, rows.action)


def test_the_ring_keeps_the_newest():
    spec = rl.ReplaySpec(8, OBS, ACT, 2)
    rows = batch(rows=11)
    with rl.SharedReplay.create(spec) as ring:
        ring.load_state_dict(filled_ring(spec, rows))
        assert ring.size() == 8
        drawn = ring.sample(np.random.default_rng(0), 200)
    assert set(drawn.reward) == set(rows.reward[3:])


def test_training_starts_with_them_and_counts_only_its_own_steps():
    rng = np.random.default_rng(0)
    rows = rl.Transition(
        *(rng.normal(size=(50, *w)).astype(np.float32) for w in ((3,), (1,), (), (3,), ()))
    )
    host = rl.HostConfig(mode="sync", max_updates=4, **SMALL)
    result = rl.train_host(jax.random.key(0), CONFIG, host, prefill=rows)
    plain = rl.train_host(jax.random.key(0), CONFIG, host)
    assert result.env_steps == plain.env_steps
    weights = [jax.device_get(x.learner.critic["q"]["kernel"]) for x in (result, plain)]
    assert not np.allclose(*weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": None}, "has no array reward; it holds"),
        ({"obs": np.zeros((9, 4))}, r"batch\.obs has shape \(9, 4\), expected \(9, 5\)"),
        ({"reward": np.full(9, np.nan)}, "reward holds values that are not finite"),
        ({"action": np.full((9, 2), 1.5)}, r"actions must lie in \[-1, 1\], the largest is 1.5"),
        ({"action_low": np.zeros(2)}, "holds action_low alone; give both of action_low, action_h"),
        ({"action_high": np.ones(2)}, "holds action_high alone"),
        (
            {"action_low": np.zeros(2), "action_high": np.array([1.0, 0.0])},
            r"action_low must be below action_high, got \[0\. 0\.\] and \[1\. 0\.\]",
        ),
        (
            {"action_low": np.zeros(2), "action_high": np.array([1.0, np.inf])},
            "action_high must be finite, it is",
        ),
    ],
)
def test_refuses(tmp_path, change, message):
    fields = {k: v for k, v in (batch(rows=9)._asdict() | change).items() if v is not None}
    np.savez(tmp_path / "rows.npz", **fields)
    with pytest.raises(ValueError, match=message):
        rl.read_transitions(tmp_path / "rows.npz", OBS, ACT)
