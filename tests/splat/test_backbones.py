import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.splat.backbones import CLASSIFIERS
from jaxlab.splat.backbones.dgcnn import EdgeConv
from jaxlab.splat.backbones.layers import MLP

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


def filled(shapes):
    """Parameters and statistics drawn at their shapes: cheaper than compiling `init`."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0.1, 0.2, x.shape), jnp.float32), shapes["params"]
    )
    stats = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), jnp.float32), shapes["batch_stats"]
    )
    return {"params": params, "batch_stats": stats}


def random_variables(model, positions, features):
    """`filled` for a classifier."""
    return filled(shapes_of(model, positions.shape[1], features.shape[2]))


class Reference:
    """Evaluated layers in NumPy, float64, of a module's variables."""

    def __init__(self, variables):
        self.params, self.stats = (
            jax.tree.map(lambda x: np.asarray(x, np.float64), variables[name])
            for name in ("params", "batch_stats")
        )

    def inside(self, name):
        """That of a module's part."""
        return Reference({"params": self.params[name], "batch_stats": self.stats.get(name, {})})

    def dense(self, name, x):
        return x @ self.params[name]["kernel"] + self.params[name].get("bias", 0)

    def norm(self, name, x):
        p, s = (tree[name]["BatchNorm_0"] for tree in (self.params, self.stats))
        return (x - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]

    def mlp(self, name, x, last_activation=True):
        part = self.inside(name)
        count = sum(layer.startswith("Dense") for layer in part.params)
        for i in range(count):
            x = part.norm(f"Norm_{i}", part.dense(f"Dense_{i}", x))
            if last_activation or i + 1 < count:
                x = np.maximum(x, 0)
        return x

    def transform(self, name, x, size):
        part = self.inside(name)
        x = part.mlp("MLP_1", part.mlp("MLP_0", x).max(1))
        return part.dense("Dense_0", x).reshape(-1, size, size) + np.eye(size)

    def head(self, name, x):
        part = self.inside(name)
        hidden = len(part.params) // 2  # a dense layer and a norm each, then the scores
        for i in range(hidden):
            x = np.maximum(part.norm(f"Norm_{i}", part.dense(f"Dense_{i}", x)), 0)
        return part.dense(f"Dense_{hidden}", x)


def test_the_factored_edge_convolution_is_the_literal_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 3)).astype(np.float32)
    graph = rng.integers(0, 7, (2, 7, 4))
    layer = EdgeConv(5)
    shapes = jax.eval_shape(lambda key: layer.init(key, x, graph, False), jax.random.key(0))
    variables = filled(shapes)
    reference = Reference(variables)
    wanted = np.empty((2, 7, 5))
    for b, i in np.ndindex(2, 7):
        center = x[b, i].astype(np.float64)
        edges = [np.concatenate([x[b, j] - center, center]) for j in graph[b, i]]
        edges = reference.norm("Norm_0", np.stack(edges) @ reference.params["kernel"])
        wanted[b, i] = np.where(edges > 0, edges, 0.2 * edges).max(0)
    got = jax.jit(layer.apply, static_argnums=3)(variables, x, graph, False)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dense", [True, False])
def test_an_edge_convolution_trains_as_the_array_of_all_edges(dense, monkeypatch):
    """In values, gradients and statistics; also where a scale is negative."""
    if not dense:
        monkeypatch.setattr("jaxlab.splat.backbones.dgcnn._DENSE_ADJACENCY", 1)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(1, 2, (2, 9, 3)), jnp.float32)
    graph = jnp.asarray(rng.integers(0, 9, (2, 9, 4)))
    layer = EdgeConv(6)
    shapes = jax.eval_shape(lambda key: layer.init(key, x, graph, False), jax.random.key(0))
    variables = filled(shapes)
    assert (variables["params"]["Norm_0"]["BatchNorm_0"]["scale"] < 0).any()

    def literal(params, x):
        pairs = x[jnp.arange(2)[:, None, None], graph]
        center = jnp.broadcast_to(x[:, :, None], pairs.shape)
        edges = jnp.concatenate([pairs - center, center], -1) @ params["kernel"]
        mean, var = edges.mean((0, 1, 2)), edges.var((0, 1, 2))
        scale, bias = (params["Norm_0"]["BatchNorm_0"][name] for name in ("scale", "bias"))
        edges = (edges - mean) / jnp.sqrt(var + 1e-5) * scale + bias
        out = splat.max_pool(jnp.where(edges > 0, edges, 0.2 * edges), 2)
        return jnp.sum(jnp.sin(out)), (mean, var)

    def ours(params, x):
        out, changed = layer.apply(
            variables | {"params": params}, x, graph, True, mutable=["batch_stats"]
        )
        new, old = changed["batch_stats"]["Norm_0"]["BatchNorm_0"], variables["batch_stats"]
        old = old["Norm_0"]["BatchNorm_0"]
        return jnp.sum(jnp.sin(out)), tuple(10 * new[n] - 9 * old[n] for n in ("mean", "var"))

    got, want = (
        jax.value_and_grad(function, (0, 1), has_aux=True)(variables["params"], x)
        for function in (ours, literal)
    )
    chex.assert_trees_all_close(got, want, rtol=1e-3, atol=1e-4)


def test_pointnet_against_numpy(batch):
    positions, features = batch
    model = splat.make_classifier("pointnet", 4, size="tiny")
    model = model.clone(widths=(8, 16, 12), head=(8, 6), transform=((8, 16), (8,)))
    variables = random_variables(model, positions, features)
    reference = Reference(variables)
    x = features.astype(np.float64)
    turned = x[..., :3] @ reference.transform("TNet_0", x, 3)
    x = reference.mlp("MLP_0", np.concatenate([turned, x[..., 3:]], -1))
    x = x @ reference.transform("TNet_1", x, 8)
    x = reference.mlp("MLP_1", x, last_activation=False).max(1)
    wanted = reference.head("Head_0", x)
    got = jax.jit(model.apply)(variables, positions, features)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * abs(wanted).max())


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


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_pooled_layer_is_the_maximum_of_the_normalised_one(train, bias):
    """In values, gradients and statistics; also where a scale is negative."""
    x = jnp.asarray(np.random.default_rng(0).normal(1, 2, (3, 20, 6)), jnp.float32)
    plain, pooled = (MLP((8, 12), bias=bias, pooled=pooled) for pooled in (False, True))
    shapes = jax.eval_shape(lambda key: plain.init(key, x, False), jax.random.key(0))
    variables = filled(shapes)
    assert (variables["params"]["Norm_1"]["BatchNorm_0"]["scale"] < 0).any()

    def apply(module, variables, x):
        out, changed = module.apply(variables, x, train, mutable=["batch_stats"])
        out = out if module.pooled else splat.max_pool(out, 1)
        return jnp.sum(jnp.sin(out)), (out, changed)

    got, want = (
        jax.value_and_grad(functools.partial(apply, module), (0, 1), has_aux=True)(variables, x)
        for module in (pooled, plain)
    )
    chex.assert_trees_all_equal_structs(got, want)
    chex.assert_trees_all_close(got, want, rtol=1e-4, atol=1e-4)
    initial = pooled.init(jax.random.key(0), x, False)
    chex.assert_trees_all_equal(initial, plain.init(jax.random.key(0), x, False))


@pytest.mark.parametrize("name", ["pointnet", "dgcnn"])
def test_a_number_that_is_nan_is_not_lost_in_a_maximum(name, batch):
    positions, features = batch
    model = splat.make_classifier(name, 4, size="tiny")
    variables = random_variables(model, positions, features)
    broken = features.copy()
    broken[0, 5, 7] = np.nan
    logits = jax.jit(model.apply)(variables, positions, broken)
    assert jnp.isnan(logits[0]).all()
    assert jnp.isfinite(logits[1:]).all()


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
