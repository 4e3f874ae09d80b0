import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import rl
from tests.rl import reference

OBS, ACT, ROWS = 3, 2, 10
CONFIG = rl.PPOConfig(OBS, ACT, (8, 6), entropy_coef=0.05)


@pytest.fixture(scope="module")
def setting():
    """A state with biases that are no zeros, and rows of an older policy."""
    rng = np.random.default_rng(0)
    fresh = rl.ppo_init(jax.random.key(1), CONFIG)
    nets = jax.tree.map(
        lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32),
        (fresh.actor, fresh.critic),
    )
    state = fresh._replace(actor=nets[0], critic=nets[1])
    obs, pre_tanh, eps = (
        rng.normal(size=(ROWS, width)).astype(np.float32) for width in (OBS, ACT, ACT)
    )
    mean, log_std = reference.actor(state.actor, obs, 2)
    old = log_prob(mean, log_std, pre_tanh) + 0.3 * rng.normal(size=ROWS)
    advantage, return_ = rng.normal(size=(2, ROWS))
    batch = rl.PPOBatch(obs, pre_tanh, *(np.float32(x) for x in (old, advantage, return_)))
    return state, batch, eps


def log_prob(mean, log_std, pre_tanh):
    return reference.squash(mean, log_std, (pre_tanh - mean) * np.exp(-log_std))[1]


def test_gae_by_hand():
    rng = np.random.default_rng(0)
    T, N = 12, 3
    reward, value, next_value = rng.normal(size=(3, T, N))
    terminated, truncated = rng.random((2, T, N)) < 0.2
    want = np.zeros((T, N))
    for n in range(N):
        later = 0.0
        for t in reversed(range(T)):
            alive = not terminated[t, n]
            delta = reward[t, n] + 0.9 * alive * next_value[t, n] - value[t, n]
            later = delta + (0.9 * 0.8 * later if alive and not truncated[t, n] else 0.0)
            want[t, n] = later
    advantage, returns = rl.gae(reward, value, next_value, terminated, truncated, 0.9, 0.8)
    np.testing.assert_allclose(advantage, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(returns, want + value, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"shapes must be equal, got reward \(3, "):
        rl.gae(reward[:3], value, next_value, terminated, truncated, 0.9, 0.8)


def test_clipped_surrogate():
    old = np.zeros(4)
    ratio = np.array([0.5, 0.95, 1.5, 1.5])
    advantage = np.array([-1.0, 2.0, 1.0, -1.0])
    want = -np.mean([-0.8, 1.9, 1.2, -1.5])
    np.testing.assert_allclose(
        rl.ppo_policy_loss(np.log(ratio), old, advantage, 0.2), want, rtol=1e-6
    )


def test_losses_against_numpy(setting):
    state, batch, eps = setting
    mean, log_std = reference.actor(state.actor, batch.obs, 2)
    ratio = np.exp(log_prob(mean, log_std, batch.pre_tanh) - batch.log_prob)
    normal = (batch.advantage - batch.advantage.mean()) / batch.advantage.std()
    surrogate = np.minimum(ratio * normal, np.clip(ratio, 0.8, 1.2) * normal).mean()
    entropy = -reference.squash(mean, log_std, eps)[1].mean()
    loss, metrics = rl.ppo_actor_loss(state.actor, batch, eps, CONFIG)
    np.testing.assert_allclose(loss, -surrogate - 0.05 * entropy, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-4)
    np.testing.assert_allclose(metrics["clip_fraction"], (abs(ratio - 1) > 0.2).mean(), rtol=1e-6)
    np.testing.assert_allclose(
        metrics["approx_kl"], (ratio - 1 - np.log(ratio)).mean(), rtol=1e-3, atol=1e-6
    )

    value = reference.dense(state.critic["v"], reference.trunk(state.critic, batch.obs, 2))[:, 0]
    np.testing.assert_allclose(
        rl.value_apply(state.critic, batch.obs, CONFIG), value, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        rl.ppo_critic_loss(state.critic, batch, CONFIG),
        ((value - batch.return_) ** 2).mean() / 2,
        rtol=1e-4,
    )


def test_a_step_follows_both_gradients(setting):
    state, batch, eps = setting
    rate = optax.sgd(0.1)
    optimizers = rl.PPOOptimizers(rate, rate)
    start = state._replace(actor_opt=rate.init(state.actor), critic_opt=rate.init(state.critic))
    after, metrics = jax.jit(rl.ppo_step, static_argnums=(3, 4))(
        start, batch, eps, CONFIG, optimizers
    )

    def total(networks):
        actor, critic = networks
        policy, _ = rl.ppo_actor_loss(actor, batch, eps, CONFIG)
        return policy + rl.ppo_critic_loss(critic, batch, CONFIG)

    slopes = jax.jit(jax.grad(total))((state.actor, state.critic))
    want = jax.tree.map(lambda x, slope: x - 0.1 * slope, (state.actor, state.critic), slopes)
    chex.assert_trees_all_close((after.actor, after.critic), want, rtol=1e-4, atol=1e-6)
    assert int(after.step) == 1
    names = "actor_loss critic_loss entropy approx_kl clip_fraction"
    assert set(metrics) == set(names.split())


def test_epochs_see_every_row_once_in_each(setting):
    """With one minibatch the order does not matter: it is `ppo_step` on all rows."""
    state, batch, _ = setting
    config = rl.PPOConfig(OBS, ACT, (8, 6))
    run = rl.OnPolicyConfig(n_envs=1, n_steps=ROWS, n_epochs=2, n_minibatches=1)
    fresh = rl.ppo_init(jax.random.key(1), config)
    start = fresh._replace(actor=state.actor, critic=state.critic)
    rows = jax.tree.map(jnp.asarray, batch)
    epochs = jax.jit(rl.ppo_epochs, static_argnums=(3, 4))
    got, metrics = epochs(jax.random.key(0), start, rows, config, run)
    step, eps = jax.jit(rl.ppo_step, static_argnums=3), jnp.zeros((ROWS, ACT))
    want = start
    for _ in range(2):
        want, _ = step(want, rows, eps, config)
    chex.assert_trees_all_close(got, want, atol=2e-5)
    assert metrics["actor_loss"].shape == (2, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_eps": 0.0}, "clip_eps must be positive, got 0.0"),
        ({"lam": 1.5}, r"lam must lie in \[0, 1\], got 1.5"),
        ({"entropy_coef": -1.0}, "entropy_coef must be >= 0, got -1.0"),
        ({"hidden": ()}, "hidden needs widths >= 1"),
        ({"log_std_min": 3.0}, "log_std_min must be below log_std_max 2.0, got 3.0"),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        rl.PPOConfig(OBS, ACT, **settings)


def test_refuses_shapes(setting):
    state, batch, eps = setting
    with pytest.raises(ValueError, match=r"eps has shape \(9, 2\), expected \(10, 2\)"):
        rl.ppo_step(state, batch, eps[:9], CONFIG)
