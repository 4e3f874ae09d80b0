import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxlab import rl
from jaxlab.rl.networks import GaussianActor
from tests.rl import reference
from tests.rl.problem import ACT, OBS, ROWS, batch, config, state


@pytest.fixture(scope="module")
def setting():
    cfg = config()
    return cfg, state(cfg), batch(), rl.draw_noise(jax.random.key(2), ROWS, ACT)


def as64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def test_networks_have_the_layout_of_plain_dicts(setting):
    cfg, s, *_ = setting
    assert set(s.actor) == {"Dense_0", "Dense_1", "mean", "log_std"}
    assert set(s.critic) == {"Dense_0", "Dense_1", "q"}
    assert s.actor["Dense_0"]["kernel"].shape == (OBS, 8)
    assert s.critic["Dense_0"]["kernel"].shape == (2, OBS + ACT, 8)
    fresh = rl.sac_init(jax.random.key(0), cfg)
    chex.assert_trees_all_equal(fresh.critic, fresh.target_critic)
    assert not np.allclose(*fresh.critic["Dense_0"]["kernel"])
    assert fresh.log_alpha == pytest.approx(np.log(0.3))


def test_fresh_parameters_are_distributed_as_those_of_flax():
    cfg = rl.SACConfig(30, 6, (200, 100))
    seeds = jax.vmap(lambda key: rl.sac_init(key, cfg))(jax.random.split(jax.random.key(0)))
    actor = jax.tree.map(lambda x: x[0], seeds.actor)
    flax = jax.eval_shape(GaussianActor(6, (200, 100)).init, jax.random.key(0), np.zeros((1, 30)))
    chex.assert_trees_all_equal_shapes_and_dtypes(actor, flax["params"])
    cut = scipy.stats.truncnorm(-2, 2)
    for name, fan_in in (("Dense_0", 30), ("Dense_1", 200), ("mean", 100)):
        normal = np.ravel(actor[name]["kernel"]) * np.sqrt(fan_in) * cut.std()
        assert scipy.stats.kstest(normal, cut.cdf).pvalue > 0.01
        assert not actor[name]["bias"].any()
    kernels = np.asarray(seeds.critic["Dense_0"]["kernel"]).reshape(4, -1)
    assert (abs(np.corrcoef(kernels) - np.eye(4)) < 0.05).all(), "seeds and critics are independent"


def test_losses_and_targets_against_numpy(setting):
    cfg, s, b, noise = setting
    b64, alpha = as64(b), np.exp(float(s.log_alpha))
    mean, log_std = reference.actor(s.actor, b64.next_obs, 2)
    action, log_prob = reference.squash(mean, log_std, np.asarray(noise.next_eps, np.float64))
    q = reference.critics(s.target_critic, b64.next_obs, action, 2).min(0)
    want = b64.reward + cfg.gamma * (1 - b64.terminated) * (q - alpha * log_prob)
    targets = rl.sac_targets(s.target_critic, s.actor, s.log_alpha, b, noise.next_eps, cfg)
    np.testing.assert_allclose(targets, want, rtol=2e-5, atol=1e-5)

    values = reference.critics(s.critic, b64.obs, b64.action, 2)
    loss, got = rl.sac_critic_loss(s.critic, targets, b, cfg)
    np.testing.assert_allclose(got, values, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(loss, 0.5 * ((values - want) ** 2).mean(1).sum(), rtol=1e-4)

    mean, log_std = reference.actor(s.actor, b64.obs, 2)
    action, log_prob = reference.squash(mean, log_std, np.asarray(noise.eps, np.float64))
    q = reference.critics(s.critic, b64.obs, action, 2).min(0)
    loss, got = rl.sac_actor_loss(s.actor, s.critic, s.log_alpha, b, noise.eps, cfg)
    np.testing.assert_allclose(got, log_prob, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loss, (alpha * log_prob - q).mean(), rtol=1e-4)
    alpha_loss = rl.sac_alpha_loss(s.log_alpha, got, -2.0)
    np.testing.assert_allclose(alpha_loss, -float(s.log_alpha) * (log_prob - 2).mean(), rtol=1e-4)
    slope = jax.grad(rl.sac_alpha_loss)(s.log_alpha, got, -2.0)
    np.testing.assert_allclose(slope, -(log_prob - 2).mean(), rtol=1e-4)


@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_a_step_is_its_parts(setting, order):
    _, s, b, noise = setting
    cfg = config(order=order, tau=0.1)
    optimizers = rl.SACOptimizers(*(optax.sgd(rate) for rate in (0.01, 0.02, 0.03)))
    fresh = rl.sac_init(jax.random.key(1), cfg, optimizers)
    s = s._replace(
        actor_opt=fresh.actor_opt, critic_opt=fresh.critic_opt, alpha_opt=fresh.alpha_opt
    )

    def descend(rate, params, gradient):
        return jax.tree.map(lambda p, g: p - rate * g, params, gradient)

    targets = rl.sac_targets(s.target_critic, s.actor, s.log_alpha, b, noise.next_eps, cfg)
    gradient = jax.grad(lambda c: rl.sac_critic_loss(c, targets, b, cfg)[0])(s.critic)
    critic = descend(0.02, s.critic, gradient)
    seen = critic if order == "sequential" else s.critic
    gradient, log_prob = jax.grad(rl.sac_actor_loss, has_aux=True)(
        s.actor, seen, s.log_alpha, b, noise.eps, cfg
    )
    got, metrics = jax.jit(rl.sac_step, static_argnums=(3, 4))(s, b, noise, cfg, optimizers)
    chex.assert_trees_all_close(got.critic, critic, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(got.actor, descend(0.01, s.actor, gradient), atol=1e-6)
    slope = -np.mean(np.asarray(log_prob) + cfg.entropy_goal)
    np.testing.assert_allclose(got.log_alpha, s.log_alpha - 0.03 * slope, rtol=1e-5)
    target = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, s.target_critic, critic)
    chex.assert_trees_all_close(got.target_critic, target, rtol=1e-5, atol=1e-6)
    assert got.step == 1
    np.testing.assert_allclose(metrics["alpha"], np.exp(s.log_alpha), rtol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], -np.mean(log_prob), rtol=1e-5)
    assert set(metrics) == set(
        "critic_loss actor_loss alpha_loss alpha entropy q_mean target_mean".split()
    )


def test_many_updates_are_one_after_the_other(setting):
    cfg, s, *_ = setting
    batches = jax.tree.map(lambda *x: np.stack(x), *[batch(i) for i in range(3)])
    many, metrics = rl.sac_update_many(jax.random.key(5), s, batches, cfg)
    one, losses = s, []
    for i, key in enumerate(jax.random.split(jax.random.key(5), 3)):
        one, m = rl.sac_update(key, one, batch(i), cfg)
        losses.append(m["critic_loss"])
    chex.assert_trees_all_close(many, one, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["critic_loss"], losses, rtol=1e-5)


def test_temperature_can_be_kept(setting):
    _, s, b, noise = setting
    got, _ = rl.sac_step(s, b, noise, config(learn_alpha=False))
    assert got.log_alpha == s.log_alpha


def test_acting(setting):
    cfg, s, b, _ = setting
    mean, log_std = rl.actor_apply(s.actor, b.obs, cfg)
    np.testing.assert_allclose(rl.policy_act(s.actor, b.obs, cfg), np.tanh(mean), rtol=1e-6)
    drawn = rl.policy_act(s.actor, b.obs, cfg, jax.random.key(0))
    assert (np.abs(drawn) <= 1).all()
    assert not np.allclose(drawn, np.tanh(mean))
    for ours, numpys in zip((mean, log_std), rl.numpy_actor(s.actor, b.obs), strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=1e-5, atol=1e-6)


def test_seeds_as_a_batch(setting):
    cfg, _, b, noise = setting
    keys = jax.random.split(jax.random.key(3), 2)
    states = jax.vmap(lambda key: rl.sac_init(key, cfg))(keys)
    together, _ = jax.vmap(lambda s: rl.sac_step(s, b, noise, cfg))(states)
    alone, _ = rl.sac_step(rl.sac_init(keys[1], cfg), b, noise, cfg)
    chex.assert_trees_all_close(
        jax.tree.map(lambda x: x[1], together.actor), alone.actor, rtol=1e-5, atol=1e-6
    )


def test_steps_do_not_retrace(setting):
    cfg, s, b, noise = setting
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(rl.sac_step, n=1), static_argnums=3)
    for same in (cfg, config()):
        s, _ = step(s, b, noise, same)


def test_flops_are_those_of_the_compiled_step():
    cfg = rl.SACConfig(17, 6)
    assert sum(rl.sac_flops(cfg, 1)) == 2_271_744
    assert sum(rl.sac_flops(rl.SACConfig(3, 1), 1)) == 2_132_480
    assert sum(rl.sac_flops(rl.SACConfig(3, 1, (64, 64)), 1)) == 139_904
    shapes = jax.eval_shape(lambda: rl.sac_init(jax.random.key(0), cfg))
    row = rl.Transition(
        *(jax.ShapeDtypeStruct(x, jnp.float32) for x in ((64, 17), (64, 6), (64,), (64, 17), (64,)))
    )
    noise = rl.Noise(*[jax.ShapeDtypeStruct((64, 6), jnp.float32)] * 2)
    compiled = jax.jit(rl.sac_step, static_argnums=3).lower(shapes, row, noise, cfg).compile()
    flops = compiled.cost_analysis()["flops"]
    assert 0.9 < flops / sum(rl.sac_flops(cfg, 64)) < 1.15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"obs_dim": 0}, "obs_dim must be >= 1, got 0"),
        ({"hidden": ()}, r"hidden needs widths >= 1, got \(\)"),
        ({"hidden": (8, 0)}, "hidden needs widths >= 1"),
        ({"n_critics": 0}, "n_critics must be >= 1"),
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1.5"),
        ({"tau": 0.0}, r"tau must lie in \(0, 1\], got 0.0"),
        ({"init_alpha": 0.0}, "init_alpha must be positive"),
        ({"critic_lr": -1.0}, "critic_lr must be positive"),
        ({"order": "both"}, "order must be one of sequential, parallel, got 'both'"),
        ({"log_std_min": 3.0}, r"log_std_min must be below log_std_max 2.0, got 3.0"),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        rl.SACConfig(**({"obs_dim": 3, "act_dim": 1} | settings))


def test_refuses_shapes(setting):
    cfg, s, b, noise = setting
    with pytest.raises(ValueError, match=r"batch.action has shape \(12, 3\), expected \(12, 2\)"):
        rl.sac_step(s, b._replace(action=np.zeros((12, 3))), noise, cfg)
    with pytest.raises(ValueError, match=r"batch.obs has shape \(11, 5\), expected \(12, 5\)"):
        rl.sac_step(s, b._replace(obs=b.obs[:11]), noise, cfg)
    with pytest.raises(ValueError, match=r"batch.reward has shape \(11,\), expected \(12,\)"):
        rl.sac_step(s, b._replace(reward=b.reward[:11]), noise, cfg)
    with pytest.raises(ValueError, match=r"batch.obs has shape \(5,\), expected"):
        rl.sac_update_many(jax.random.key(0), s, b, cfg)  # batches without their axis of updates
    with pytest.raises(ValueError, match=r"noise.eps has shape \(3, 2\), expected \(12, 2\)"):
        rl.sac_step(s, b, noise._replace(eps=noise.eps[:3]), cfg)
