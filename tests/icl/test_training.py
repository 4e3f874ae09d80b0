import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import icl
from tests.icl.priors import generic_prior


def test_population_training_reaches_the_closed_form_minimum():
    with jax.enable_x64(True):
        prior = icl.make_prior(np.full(3, 2.0), noise_var=0.25)
        params = jax.tree.map(lambda x: x.astype(float), icl.init_ltb(jax.random.key(0), 3))
        adam = optax.adam(optax.cosine_decay_schedule(1e-2, 3000))
        result = icl.fit_population(params, prior, 6, num_steps=3000, optimizer=adam)
        floor = icl.min_gd_beta_risk(prior, 6)
        np.testing.assert_allclose(icl.icl_risk(result.params, prior, 6), floor, atol=1e-9)
        np.testing.assert_allclose(result.loss[0], icl.icl_risk(params, prior, 6), rtol=1e-12)
        prompts = icl.sample_prompts(jax.random.key(1), prior, 6, 512)
        assert icl.project_to_gd_beta(result.params, *prompts[:2]).distance < 1e-3


def test_sampled_training_descends_and_is_reproducible():
    prior = generic_prior(dim=2, dtype=np.float32)
    params = icl.init_ltb(jax.random.key(0), 2)
    settings = {"num_steps": 400, "batch_size": 64, "optimizer": optax.adam(1e-2)}
    first = icl.train(jax.random.key(1), params, icl.ltb_apply, prior, 8, **settings)
    again = icl.train(jax.random.key(1), params, icl.ltb_apply, prior, 8, **settings)
    chex.assert_trees_all_equal(first, again)
    assert first.loss.shape == (400,)
    assert first.loss[-50:].mean() < 0.7 * first.loss[:20].mean()
    chex.assert_trees_all_equal_dtypes(first.params, params)


def test_training_against_the_same_steps_in_torch(from_peer):
    prior = generic_prior(dim=2, dtype=np.float32)
    params = icl.init_ltb(jax.random.key(0), 2)
    ours = icl.train(
        jax.random.key(1),
        params,
        icl.ltb_apply,
        prior,
        4,
        num_steps=20,
        batch_size=16,
        optimizer=optax.adam(1e-2),
    )

    def theirs():
        import torch

        weights = [torch.tensor(np.asarray(w), requires_grad=True) for w in params]
        adam = torch.optim.Adam(weights, lr=1e-2)
        for key in jax.random.split(jax.random.key(1), 20):
            prompts = icl.sample_prompts(key, prior, 4, 16)
            E, target = (torch.tensor(np.asarray(x)) for x in prompts[:2])
            P, V, K, Q, W1, W2 = weights
            keys = E * torch.tensor([1.0] * 4 + [0.0])
            T = E + P.T @ V @ keys @ keys.mT @ K.T @ Q @ E / 4
            loss = ((W2.T @ W1 @ T)[:, -1, -1] - target).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return {name: w.detach() for name, w in zip(params._fields, weights, strict=True)}

    wanted = from_peer(theirs, "torch", atol=1e-5)
    for name, got in ours.params._asdict().items():
        np.testing.assert_allclose(got, wanted[name], atol=2e-5)


def test_transformer_predicts_every_label_causally():
    model = icl.ICLTransformer(width=16, depth=2, num_heads=2)
    prior = generic_prior(dim=3, dtype=np.float32)
    sequence = icl.interleave(icl.sample_prompts(jax.random.key(0), prior, 4, 2).tokens)
    params = model.init(jax.random.key(1), sequence)
    prediction = model.apply(params, sequence)
    assert prediction.shape == (2, 5)
    later = sequence.at[:, 5:].add(1.0)  # the label of the third example and what follows
    np.testing.assert_allclose(
        model.apply(params, later)[:, :3], prediction[:, :3], rtol=1e-5, atol=1e-6
    )
    assert abs(model.apply(params, later)[:, 3:] - prediction[:, 3:]).min() > 1e-6
    plain = icl.ICLTransformer(width=16, depth=2, num_heads=2, use_mlp=False)
    names = set(plain.init(jax.random.key(1), sequence)["params"])
    assert not [name for name in names if name.startswith("mlp")]


def test_transformer_trains_on_all_positions():
    model = icl.ICLTransformer(width=16, depth=1, num_heads=2)
    prior = icl.make_prior(np.zeros(2, np.float32))
    params = model.init(jax.random.key(0), jnp.zeros((1, 9, 2)))

    def apply(params, tokens):
        return model.apply(params, icl.interleave(tokens))

    result = icl.train(
        jax.random.key(1),
        params,
        apply,
        prior,
        4,
        num_steps=60,
        batch_size=32,
        optimizer=optax.adam(3e-3),
    )
    assert result.loss[-10:].mean() < result.loss[:10].mean()


def test_refuses():
    prior = icl.make_prior([1.0])
    params = icl.init_lsa(jax.random.key(0), 1)
    adam = optax.adam(1e-2)
    with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
        icl.fit_population(params, prior, 3, num_steps=0, optimizer=adam)
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        icl.train(
            jax.random.key(0),
            params,
            icl.lsa_apply,
            prior,
            3,
            num_steps=1,
            batch_size=0,
            optimizer=adam,
        )


def test_runs_batch_over_seeds():
    prior = icl.make_prior(np.ones(2, np.float32), noise_var=0.1)
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.vmap(lambda key: icl.init_lsa(key, 2))(keys)
    adam = optax.adam(1e-2)

    def fit(p):
        return icl.fit_population(p, prior, 4, num_steps=10, optimizer=adam).loss

    many = jax.vmap(fit)(params)
    one = fit(jax.tree.map(lambda x: x[1], params))
    np.testing.assert_allclose(many[1], one, rtol=1e-5)
