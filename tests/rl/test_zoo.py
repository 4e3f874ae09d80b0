import jax
import pytest

from jaxlab import rl


def test_entries_suit_their_environments():
    for (env_id, _), entry in rl.ZOO.items():
        assert entry.mean_return >= -200
        assert (entry.algorithm.obs_dim, entry.algorithm.act_dim) == (3, 1)
        if isinstance(entry.layout, rl.HostConfig):
            assert entry.layout.env_id == env_id
        else:
            rl.make_env(env_id)
    with pytest.raises(ValueError, match=r"nothing is tuned for sac on gym:X; there are sac on p"):
        rl.tuned_settings("gym:X", "sac")


def test_ppo_solves_pendulum_with_its_entry():
    env, entry = rl.make_env("pendulum"), rl.tuned_settings("pendulum", "ppo")
    state = rl.onpolicy_init(jax.random.key(0), env, entry.algorithm, entry.layout)
    for _ in range(12):
        state, _ = rl.onpolicy_run(state, env, entry.algorithm, entry.layout, 5)
        actor = state.learner.actor
        returns = rl.evaluate_policy(jax.random.key(9), env, actor, entry.algorithm, 32)
        if returns.mean() >= -200:
            return
    pytest.fail(f"mean return {returns.mean():.0f} after {int(state.env_steps)} steps")
