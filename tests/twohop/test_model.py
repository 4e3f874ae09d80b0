import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import twohop

CONFIGS = [
    twohop.ModelConfig(dim=16),
    twohop.ModelConfig(dim=16, n_heads=2),
    twohop.ModelConfig(dim=16, mlp_ratio=2),
    twohop.ModelConfig(dim=16, n_heads=4, mlp_ratio=4, n_layers=2),
    twohop.ModelConfig(dim=16, pos="rope", n_heads=2),
    twohop.ModelConfig(dim=16, pos="rope", mlp_ratio=1),
    twohop.ModelConfig(dim=16, pos="none", n_layers=1),
    twohop.ModelConfig(dim=16, norm="none", mlp_ratio=2),
]
NAMES = [f"{c.pos}-{c.norm}-h{c.n_heads}-m{c.mlp_ratio}-l{c.n_layers}" for c in CONFIGS]


def perturbed(config, seed=0):
    """Norms that are not 1 and biases that are not 0, or half of the mistakes are invisible."""
    params = twohop.init_params(jax.random.key(seed), config)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noise = [0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, [x + n for x, n in zip(leaves, noise, strict=True)])


def reference(params, tokens, config):
    """The definition in NumPy float64, one sequence and one head at a time."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def norm(x, ln):
        if ln is None:
            return x
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * ln["scale"]
            + ln["bias"]
        )

    def rotate(x):
        half = x.shape[1] // 2
        angle = np.arange(len(x))[:, None] * 10_000.0 ** (-2 * np.arange(half) / x.shape[1])
        a, b = x[:, :half], x[:, half:]
        return np.hstack(
            [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)]
        )

    logits = []
    for sequence in np.asarray(tokens):
        x = params["tok"][sequence]
        if config.pos == "learned":
            x = x + params["pos"][: len(x)]
        for layer in params["layers"]:
            h, heads = norm(x, layer.get("ln1")), []
            for head in range(config.n_heads):
                columns = slice(head * config.head_dim, (head + 1) * config.head_dim)
                q, k, v = (h @ layer[name][:, columns] for name in ("wq", "wk", "wv"))
                if config.pos == "rope":
                    q, k = rotate(q), rotate(k)
                scores = q @ k.T / np.sqrt(config.head_dim)
                scores[np.triu_indices(len(x), 1)] = -np.inf
                weights = np.exp(scores - scores.max(1, keepdims=True))
                heads.append(weights / weights.sum(1, keepdims=True) @ v)
            x = x + np.hstack(heads) @ layer["wo"]
            if config.mlp_ratio:
                x = x + np.maximum(norm(x, layer.get("ln2")) @ layer["w1"], 0) @ layer["w2"]
        logits.append(norm(x, params.get("ln_f")) @ params["unembed"])
    return np.stack(logits)


@pytest.fixture(scope="module")
def batch():
    return twohop.sample_batch(jax.random.key(5), twohop.TaskConfig(), 6)


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_three_forward_passes_are_the_definition(config, batch):
    params = perturbed(config)
    want = reference(params, batch.tokens, config)
    logits = jax.jit(twohop.forward, static_argnames="config")(params, batch.tokens, config)
    np.testing.assert_allclose(logits, want, rtol=1e-3, atol=2e-4)
    cached, cache = twohop.forward_with_cache(params, batch.tokens, config)
    np.testing.assert_allclose(cached, logits, rtol=1e-4, atol=1e-4)
    fast = twohop.query_logits(params, batch.tokens, config)
    np.testing.assert_allclose(fast, want[:, -1], rtol=1e-3, atol=2e-4)
    weights = np.asarray(cache.attn_weights)
    assert (weights[..., np.triu_indices(22, 1)[0], np.triu_indices(22, 1)[1]] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert cache.resid.shape == (config.n_layers + 1, 6, 22, 16)
    assert cache.values.shape == (config.n_layers, 6, config.n_heads, 22, config.head_dim)


def test_double_precision_is_kept(batch):
    config = CONFIGS[3]
    kept = jax.device_get(perturbed(config))  # NumPy, as the checkpoints of a run are
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), kept)
        want = reference(params, batch.tokens, config)
        logits = jax.jit(lambda tokens: twohop.forward(params, tokens, config))(batch.tokens)
        np.testing.assert_allclose(logits, want, rtol=1e-10, atol=1e-10)
        fast = twohop.query_logits(params, batch.tokens, config)
        np.testing.assert_allclose(fast, want[:, -1], rtol=1e-10, atol=1e-10)
        right = want[np.arange(6), -1, batch.answer]
        loss = np.mean(np.log(np.exp(want[:, -1]).sum(-1)) - right)
        np.testing.assert_allclose(twohop.loss_fn(params, batch, config), loss, rtol=1e-12)


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_fast_path_has_the_same_gradients(config, batch):
    params = perturbed(config)

    def slow(params):
        logits = twohop.forward(params, batch.tokens, config)[:, -1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.answer).mean()

    got = jax.grad(twohop.loss_fn)(params, batch, config)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(jax.grad(slow)(params)), strict=True):
        # Three layers without norms amplify rounding to some 5e-4 of the largest entry.
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5 + 1e-3 * abs(b).max())


def test_parameters_are_initialised_as_torch_does():
    config = twohop.ModelConfig(dim=64, mlp_ratio=4, n_tokens=500)
    params = twohop.init_params(jax.random.key(0), config)
    assert set(params) == {"tok", "pos", "unembed", "layers", "ln_f"}
    assert set(params["layers"][0]) == {"wq", "wk", "wv", "wo", "w1", "w2", "ln1", "ln2"}
    assert abs(params["tok"].std() - 1) < 0.02
    for name, fan_in in (("wq", 64), ("w1", 64), ("w2", 256)):
        weight = params["layers"][1][name]
        assert abs(weight).max() <= fan_in**-0.5
        np.testing.assert_allclose(weight.std(), (3 * fan_in) ** -0.5, rtol=0.05)
    plain = twohop.init_params(
        jax.random.key(0), twohop.ModelConfig(dim=8, norm="none", pos="rope")
    )
    assert set(plain) == {"tok", "unembed", "layers"}
    assert set(plain["layers"][0]) == {"wq", "wk", "wv", "wo"}


def test_against_torch(batch, from_peer):
    config = twohop.ModelConfig(dim=32, n_heads=2, n_layers=2)
    initial = perturbed(config)

    def theirs():
        import torch
        from torch.nn import functional

        params = jax.tree.map(lambda x: torch.tensor(np.asarray(x)), initial)

        def norm(x, ln):
            return functional.layer_norm(x, (32,), ln["scale"], ln["bias"])

        def heads(x):
            return x.unflatten(-1, (2, 16)).transpose(1, 2)

        x = params["tok"][torch.tensor(np.asarray(batch.tokens)).long()] + params["pos"]
        for layer in params["layers"]:
            h = norm(x, layer["ln1"])
            q, k, v = (heads(h @ layer[name]) for name in ("wq", "wk", "wv"))
            out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + out.transpose(1, 2).flatten(2) @ layer["wo"]
        return {"logits": norm(x, params["ln_f"]) @ params["unembed"]}

    want = from_peer(theirs, "torch", rtol=1e-4, atol=1e-5)
    got = twohop.forward(initial, batch.tokens, config)
    np.testing.assert_allclose(got, want["logits"], rtol=1e-3, atol=1e-4)


def test_interventions_replace_and_propagate(batch):
    config = twohop.ModelConfig(dim=16, n_heads=2)
    params = perturbed(config)
    _, clean = twohop.forward_with_cache(params, batch.tokens, config)
    value = jnp.zeros_like(clean.resid).at[1, :, 3].set(7.0)
    mask = jnp.zeros((4, 6, 22), bool).at[1, :, 3].set(True)
    _, cache = twohop.forward_with_cache(
        params, batch.tokens, config, twohop.Interventions(resid_value=value, resid_mask=mask)
    )
    np.testing.assert_array_equal(cache.resid[1, :, 3], 7.0)
    np.testing.assert_allclose(cache.resid[0], clean.resid[0])
    np.testing.assert_allclose(cache.resid[:, :, :3], clean.resid[:, :, :3], atol=1e-6)
    assert abs(cache.resid[2, :, 4:] - clean.resid[2, :, 4:]).max() > 1e-3
    everything = twohop.Interventions(
        attn_bias=jnp.full((3, 6, 2, 22, 22), -1e9),
    )
    blind, _ = twohop.forward_with_cache(params, batch.tokens, config, everything)
    assert np.isfinite(blind).all()

    def through(value):
        change = twohop.Interventions(resid_value=value, resid_mask=mask)
        return twohop.forward_with_cache(params, batch.tokens, config, change)[0].sum()

    grads = jax.grad(through)(value)
    assert abs(grads[1, :, 3]).max() > 0
    assert (jnp.where(mask[..., None], 0, grads) == 0).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dim": 0}, "dim must be >= 1, got 0"),
        ({"n_heads": 3}, "n_heads 3 does not divide dim 256"),
        ({"norm": "post"}, "norm must be one of pre, none, got 'post'"),
        ({"pos": "sin"}, "pos must be one of learned, rope, none"),
        ({"dim": 6, "n_heads": 2, "pos": "rope"}, "even head width, got 3"),
    ],
)
def test_config_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        twohop.ModelConfig(**kwargs)


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (np.zeros(5, int), ValueError, r"\[B, T\], got shape \(5,\)"),
        (np.zeros((1, 5)), TypeError, "tokens must be integers, got float"),
        (np.zeros((1, 23), int), ValueError, "23 tokens are longer than max_len 22"),
    ],
)
def test_tokens_are_checked(tokens, error, message):
    config = twohop.ModelConfig(dim=8)
    params = twohop.init_params(jax.random.key(0), config)
    for run in (twohop.forward, twohop.forward_with_cache, twohop.query_logits):
        with pytest.raises(error, match=message):
            run(params, tokens, config)


def test_interventions_are_checked(batch):
    config = twohop.ModelConfig(dim=8)
    params = twohop.init_params(jax.random.key(0), config)
    for changes, message in (
        (twohop.Interventions(attn_bias=np.zeros((3, 6, 1, 22, 21))), "attn_bias must have shape"),
        (twohop.Interventions(resid_value=np.zeros((4, 6, 22, 8))), "belong together"),
    ):
        with pytest.raises(ValueError, match=message):
            twohop.forward_with_cache(params, batch.tokens, config, changes)
