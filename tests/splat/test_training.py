import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import parallel, splat
from jaxlab.splat import training

CONFIG = splat.ClsConfig(num_steps=12, batch_size=8)
DESCENT = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=0.01)


@pytest.fixture(scope="module")
def data():
    drawn = splat.sample_ambiguous_clouds(
        jax.random.key(0), objects_per_class=8, num_points=32, shapes=("box",)
    )
    return jax.tree.map(np.asarray, drawn._replace(class_names=()))._replace(
        class_names=drawn.class_names
    )


@pytest.fixture(scope="module")
def trained(data):
    return splat.train_classifier(jax.random.key(1), data, data, CONFIG)


def test_result(trained, data):
    assert set(trained.variables) == {"params", "batch_stats"}
    assert trained.losses.shape == (12,)
    assert np.isfinite(trained.losses).all()
    assert trained.metrics.confusion.sum() == 24
    features = splat.build_features(data.cloud, "posq")
    np.testing.assert_allclose(trained.feature_mean, features.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(trained.feature_std, features.std((0, 1)), atol=1e-5)


def test_learns_what_can_be_known():
    train, test = (
        splat.sample_ambiguous_clouds(
            jax.random.key(seed), objects_per_class=20, num_points=32, shapes=("box",)
        )
        for seed in (0, 1)
    )
    config = dataclasses.replace(CONFIG, num_steps=100, batch_size=16)
    result = splat.train_classifier(jax.random.key(0), train, test, config)
    assert result.metrics.oa > 0.9
    blind = splat.train_classifier(jax.random.key(0), train, test, config, hidden="osq")
    assert blind.metrics.oa < 0.6
    assert np.isinf(blind.feature_std[3:]).all()


def test_a_second_training_compiles_nothing(trained, data):
    before = training._compiled.cache_info().misses
    run = training._compiled(CONFIG, 3, 12, tuple(jax.local_devices()[:1]))
    programs = run._cache_size()
    again = splat.train_classifier(jax.random.key(1), data, data, CONFIG)
    assert training._compiled.cache_info().misses == before
    assert run._cache_size() == programs
    np.testing.assert_array_equal(again.losses, trained.losses)


def test_a_resumed_training_ends_the_same(trained, data):
    kept = []
    config, key = CONFIG, jax.random.key(1)
    splat.train_classifier(key, data, data, config, chunk_steps=6, on_chunk=kept.append)
    assert [int(p.state.step) for p in kept] == [6, 12]
    assert np.isnan(kept[0].losses[6:]).all()
    resumed = splat.train_classifier(key, data, data, config, chunk_steps=6, progress=kept[0])
    np.testing.assert_allclose(resumed.losses, trained.losses, atol=1e-6)
    for a, b in zip(
        jax.tree.leaves(resumed.variables), jax.tree.leaves(trained.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.fixture(scope="module")
def descended(data):
    """A training by plain steps along the gradient, on one device."""
    return splat.train_classifier(jax.random.key(1), data, data, DESCENT)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_give_the_numbers_of_one(devices, trained, descended, data):
    several, adam = (
        splat.train_classifier(
            jax.random.key(1), data, data, config, devices=jax.local_devices()[:devices]
        )
        for config in (DESCENT, CONFIG)
    )
    np.testing.assert_allclose(several.losses, descended.losses, rtol=1e-5)
    for a, b in zip(
        jax.tree.leaves(several.variables), jax.tree.leaves(descended.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Adam divides by a gradient's size: where that is nothing but rounding, as before a
    # normalisation, it makes whole steps of it, and after some the losses part.
    np.testing.assert_allclose(adam.losses[:3], trained.losses[:3], rtol=1e-5)
    np.testing.assert_allclose(adam.losses, trained.losses, rtol=1e-2)


def test_a_step_over_devices_averages_gradients_and_statistics(data):
    features = np.asarray(splat.build_features(data.cloud, "posq"))[:8]
    positions, labels = data.cloud.means[:8], jnp.asarray(data.labels[:8])
    tx = optax.sgd(0.1)
    one = splat.make_classifier("pointnet", 3, size="tiny", dropout=0.5)
    state = splat.init_train_state(jax.random.key(0), one, tx, positions, features)
    key = jax.random.key(5)
    want, loss = splat.make_train_step(one, tx)(state, key, positions, features, labels)
    many = splat.make_classifier("pointnet", 3, size="tiny", dropout=0.5, axis_name=parallel.AXIS)
    step = splat.make_train_step(many, tx, axis_name=parallel.AXIS)
    mapped = jax.pmap(step, axis_name=parallel.AXIS, devices=jax.local_devices()[:4])
    spread = parallel.replicate((state, key), 4)
    got, losses = mapped(*spread, *parallel.shard_batch((positions, features, labels), 4))
    np.testing.assert_allclose(losses, np.full(4, loss), rtol=1e-5)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a[0], b, atol=2e-5)
        np.testing.assert_array_equal(a[0], a[3])
    assert got.step.tolist() == [1] * 4


def test_one_step_is_the_optimizer_on_the_mean_loss(data):
    features = np.asarray(splat.build_features(data.cloud, "p"))[:6]
    labels = jnp.asarray(data.labels[:6])
    model = splat.make_classifier("dgcnn", 3, size="tiny", dropout=0.0)
    tx = optax.sgd(0.5)
    state = splat.init_train_state(jax.random.key(0), model, tx, features, features)
    chex.clear_trace_counter()
    step = splat.make_train_step(model, tx, label_smoothing=0.3)
    after, loss = step(state, jax.random.key(0), features, features, labels)

    def mean_loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, _ = model.apply(variables, features, features, train=True, mutable=["batch_stats"])
        target = 0.7 * jax.nn.one_hot(labels, 3) + 0.1
        return -(target * jax.nn.log_softmax(logits)).sum(-1).mean()

    want, gradient = jax.jit(jax.value_and_grad(mean_loss))(state.params)
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    moved = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, gradient)
    for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert after.step == 1


@pytest.mark.parametrize("model", ["pointnet", pytest.param("dela", marks=pytest.mark.slow)])
def test_regularizers_count_where_they_are_asked_for(model, data):
    features = np.asarray(splat.build_features(data.cloud, "posq"))[:4]
    args = features[..., :3], features, jnp.asarray(data.labels[:4])
    narrow = {
        "pointnet": {"widths": (8, 16), "head": (8,), "transform": ((8, 16), (8,))},
        "dela": {"points": (16,), "widths": (8,), "depth": 1, "encoding": (4,), "final": 8},
    }
    network = splat.make_classifier(model, 3, size="tiny", dropout=0.0).clone(**narrow[model])
    tx, key = optax.sgd(0.1), jax.random.key(0)
    state = splat.init_train_state(key, network, tx, *args[:2])
    _, plain = splat.make_train_step(network, tx)(state, key, *args)
    weighted = splat.make_train_step(network, tx, regularization=lambda step: 0.1 + 0 * step)
    assert weighted(state, key, *args)[1] > plain + 1e-4


def test_schedules():
    config = splat.ClsConfig(
        optimizer="sgd", learning_rate=0.1, final_learning_rate=0.01, warmup_steps=5, num_steps=20
    )
    tx = training.make_optimizer(dataclasses.replace(config, weight_decay=0.0, clip_norm=0.0))
    params = jnp.ones(2)
    opt_state = tx.init(params)
    sizes = []
    for _ in range(20):
        update, opt_state = tx.update(jnp.zeros(2).at[0].set(1.0), opt_state, params)
        sizes.append(float(-update[0]))
    assert sizes[0] == 0
    assert np.argmax(sizes) > 5  # momentum adds up after the warm-up
    assert training._regularization(config) is None
    decayed = training._regularization(
        dataclasses.replace(config, regularization=0.5, regularization_decay=0.01)
    )
    np.testing.assert_allclose([decayed(0), decayed(20)], [0.5, 0.005])


def test_refuses(data):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="test classes"):
        splat.train_classifier(key, data, data._replace(class_names=("a", "b", "c")), CONFIG)
    with pytest.raises(ValueError, match="feature_set must hold letters"):
        splat.train_classifier(key, data, data, dataclasses.replace(CONFIG, feature_set="xyz"))
    with pytest.raises(ValueError, match="hidden 'c' must be letters of 'posq'"):
        splat.train_classifier(key, data, data, CONFIG, hidden="c")
    with pytest.raises(ValueError, match="batch of 8 objects cannot be split over 3 devices"):
        splat.train_classifier(key, data, data, CONFIG, devices=jax.local_devices()[:3])
    with pytest.raises(ValueError, match="optimizer must be one of adamw, sgd, got 'lion'"):
        splat.train_classifier(key, data, data, dataclasses.replace(CONFIG, optimizer="lion"))
    with pytest.raises(ValueError, match="classifier must be one of"):
        splat.train_classifier(key, data, data, dataclasses.replace(CONFIG, model="vgg"))
    with pytest.raises(ValueError, match="rotate must be one of"):
        splat.train_classifier(key, data, data, dataclasses.replace(CONFIG, rotate="x"))
