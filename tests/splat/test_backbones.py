import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.splat.backbones import CLASSIFIERS

POINTS, BATCH = 40, 3


def count(tree):
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def shapes_of(model, points, channels):
    zeros = jnp.zeros((2, points, 3)), jnp.zeros((2, points, channels))
    return jax.eval_shape(
        lambda key: model.init({"params": key, "dropout": key}, *zeros), jax.random.key(0)
    )


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("pointnet", 3.467),
        ("pointnet2", 1.471),
        ("dgcnn", 1.805),
        ("pointnext", 1.369),
        ("pointmlp", 13.23),
    ],
)
def test_published_sizes(name, millions):
    variables = shapes_of(splat.make_classifier(name, 20), 1024, 11)
    assert set(variables) == {"params", "batch_stats"}
    assert count(variables["params"]) == pytest.approx(1e6 * millions, rel=6e-4)


def test_official_pointnext():
    variables = shapes_of(splat.make_classifier("pointnext", 15), 1024, 4)
    assert count(variables["params"]) == pytest.approx(1.367e6, rel=5e-4)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(BATCH, POINTS, 3)).astype(np.float32)
    features = rng.normal(size=(BATCH, POINTS, 11)).astype(np.float32)
    return positions, np.concatenate([positions, features[..., 3:]], -1)


def random_variables(model, positions, features):
    """Parameters and statistics drawn at their shapes: cheaper than compiling `init`."""
    shapes = shapes_of(model, positions.shape[1], features.shape[2])
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0.1, 0.2, x.shape), jnp.float32), shapes["params"]
    )
    stats = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), jnp.float32), shapes["batch_stats"]
    )
    return {"params": params, "batch_stats": stats}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_evaluation_depends_neither_on_order_nor_on_the_batch(name, batch):
    positions, features = batch
    model = splat.make_classifier(name, 4, size="tiny")
    variables = random_variables(model, positions, features)
    apply = jax.jit(model.apply)
    logits = apply(variables, positions, features)
    assert logits.shape == (BATCH, 4)
    assert jnp.isfinite(logits).all()
    scale = float(abs(logits).max())

    order = np.random.default_rng(1).permutation(POINTS)
    permuted = apply(variables, positions[:, order], features[:, order])
    np.testing.assert_allclose(permuted, logits, atol=1e-4 * scale)

    others = positions.copy(), features.copy()
    for x in others:
        x[1:] = x[1:][::-1] * 0.5
    np.testing.assert_allclose(apply(variables, *others)[0], logits[0], atol=1e-5 * scale)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("dela", "pointmlp", "ptv3") else [])
        for name in CLASSIFIERS
    ],
)
def test_every_parameter_has_a_gradient(name, batch):
    positions, features = batch
    model = splat.make_classifier(name, 4, size="tiny")
    variables = random_variables(model, positions, features)

    def loss(params):
        out, changed = model.apply(
            variables | {"params": params},
            positions,
            features,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return (out**2).mean(), changed

    gradient, changed = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    dead = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        where = jax.tree_util.keystr(path)
        assert jnp.isfinite(leaf).all(), where
        # A bias before a normalisation has none; DeLA's regressors serve an extra term.
        if not leaf.any() and "bias" not in where and "regressor" not in where:
            dead.append(where)
    assert not dead
    before = variables["batch_stats"]
    assert jax.tree.structure(changed["batch_stats"]) == jax.tree.structure(before)


def test_pointnet_without_positions_skips_its_input_transform():
    whole = shapes_of(splat.make_classifier("pointnet", 4), 32, 8)
    bare = shapes_of(splat.make_classifier("pointnet", 4, positions_in_features=False), 32, 8)
    assert count(whole["params"]) - count(bare["params"]) > 700_000
    assert count(bare["params"]) > 2_000_000


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_max_pool_sends_its_gradient_to_the_first_maximum(axis):
    x = jnp.array(np.random.default_rng(0).integers(0, 4, (4, 5, 6)), jnp.float32)
    np.testing.assert_array_equal(splat.max_pool(x, axis), x.max(axis))
    gradient = np.asarray(jax.grad(lambda x: (splat.max_pool(x, axis) * 2.0).sum())(x))
    wanted = np.zeros_like(gradient)
    np.put_along_axis(wanted, np.expand_dims(np.argmax(x, axis), axis), 2.0, axis)
    np.testing.assert_array_equal(gradient, wanted)


def test_jitted_gradients_are_the_eager_ones():
    # Where a mask of maxima was recomputed with other rounding, a third of the gradient was lost.
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(8, 40, 11)), jnp.float32)
    model = splat.make_classifier("pointnet", 5, size="tiny", dropout=0.0)
    variables = random_variables(model, x[..., :3], x)

    def loss(params):
        out, _ = model.apply(
            variables | {"params": params}, x[..., :3], x, train=True, mutable=["batch_stats"]
        )
        return jax.nn.log_softmax(out)[jnp.arange(8), jnp.arange(8) % 5].sum()

    eager = jax.grad(loss)(variables["params"])
    jitted = jax.jit(jax.grad(loss))(variables["params"])
    for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4 * float(abs(a).max()) + 1e-5)


def test_refuses():
    with pytest.raises(ValueError, match="classifier must be one of pointnet, pointnet2, dgcnn"):
        splat.make_classifier("resnet", 4)
    with pytest.raises(ValueError, match="size must be one of paper, tiny, got 'huge'"):
        splat.make_classifier("dgcnn", 4, size="huge")
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1.0"):
        splat.make_classifier("dgcnn", 4, dropout=1.0)
    with pytest.raises(ValueError, match="num_classes must be >= 1, got 0"):
        splat.make_classifier("dgcnn", 0)
