import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import icl


def literal(params, tokens):
    """The definition as written, with the whole (M+1) x (M+1) attention, in float64."""
    W = {name: np.asarray(value, np.float64) for name, value in params._asdict().items()}
    E = np.asarray(tokens, np.float64)
    M = E.shape[1] - 1
    mask = np.diag([1.0] * M + [0.0])
    T = E + W["W_P"].T @ W["W_V"] @ E @ mask @ E.T @ W["W_K"].T @ W["W_Q"] @ E / M
    return (W["W_2"].T @ W["W_1"] @ T if "W_1" in W else T)[-1, -1]


def random_tokens(seed, dim, num_context, batch=4):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(batch, num_context, dim)), rng.normal(size=(batch, num_context))
    return icl.make_tokens(X, y, rng.normal(size=(batch, dim)))


sizes = st.integers(1, 5)


@settings(max_examples=10)  # every size compiles anew
@given(sizes, sizes, sizes, sizes, sizes, st.integers(0, 100))
def test_apply_is_the_definition(dim, num_context, key_dim, value_dim, hidden_dim, seed):
    key, tokens = jax.random.key(seed), random_tokens(seed, dim, num_context)
    widths = {"key_dim": key_dim, "value_dim": value_dim, "scale": 1.0}
    lsa = icl.init_lsa(key, dim, **widths)
    ltb = icl.init_ltb(key, dim, **widths, hidden_dim=hidden_dim)
    for params, apply in ((lsa, icl.lsa_apply), (ltb, icl.ltb_apply)):
        apply, want = jax.jit(apply), [literal(params, prompt) for prompt in tokens]
        np.testing.assert_allclose(apply(params, tokens), want, rtol=2e-4, atol=2e-4)
        one = apply(params, tokens[0])
        assert one.shape == ()
        nested = apply(params, tokens.reshape(2, 2, *tokens.shape[1:]))
        np.testing.assert_allclose(nested.ravel(), want, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("init", [icl.init_lsa, icl.init_ltb])
def test_effective_parameters_are_the_function(init):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64), init(jax.random.key(1), 3))
        tokens = random_tokens(2, 3, 6)
        skip, value, query = icl.effective(params)
        X = tokens[:, :, :-1]
        G = jnp.einsum("bim,bjm->bij", X, X) / 6
        x = tokens[:, :-1, -1]
        got = x @ skip + jnp.einsum("i,bij,jk,bk->b", value, G, query, x)
        apply = icl.ltb_apply if init is icl.init_ltb else icl.lsa_apply
        np.testing.assert_allclose(got, apply(params, tokens), rtol=1e-12)


def test_the_query_is_no_example():
    """A token matrix whose query column is large changes nothing but the query itself."""
    params = icl.init_lsa(jax.random.key(0), 2, scale=1.0)
    tokens = random_tokens(0, 2, 3)
    double = tokens.at[:, :2, -1].multiply(2)
    np.testing.assert_allclose(
        icl.lsa_apply(params, double), 2 * icl.lsa_apply(params, tokens), rtol=1e-5
    )


@chex.variants(with_jit=True, without_jit=True)
class ApplyTest(chex.TestCase):
    def test_jit_vmap_and_grad(self):
        tokens = random_tokens(3, 3, 5)
        params = icl.init_ltb(jax.random.key(0), 3)
        stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
        batched = self.variant(jax.vmap(icl.ltb_apply, in_axes=(0, None)))(stacked, tokens)
        np.testing.assert_allclose(batched[0], icl.ltb_apply(params, tokens), rtol=1e-5)
        grads = self.variant(jax.grad(lambda p: icl.ltb_apply(p, tokens).sum()))(params)
        chex.assert_tree_all_finite(grads)


def test_initial_scale():
    params = icl.init_ltb(jax.random.key(0), 40, scale=0.5)
    assert all(abs(float(leaf.std()) - 0.5) < 0.05 for leaf in params)
    assert params.W_Q.shape == (40, 41)
    assert params.W_2.shape == (41, 41)


@pytest.mark.parametrize("name", ["key_dim", "value_dim", "hidden_dim"])
def test_a_dimension_of_zero_is_no_default(name):
    inits = [icl.init_ltb] if name == "hidden_dim" else [icl.init_lsa, icl.init_ltb]
    for init in inits:
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
            init(jax.random.key(0), 3, **{name: 0})
