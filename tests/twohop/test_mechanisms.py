"""Observables and interventions, held against circuits whose mechanism is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import twohop

TASK = twohop.TaskConfig()


@pytest.fixture(scope="module")
def batch():
    return twohop.sample_batch(jax.random.key(0), TASK, 128)


@pytest.fixture(scope="module")
def sequential(batch):
    params, config = twohop.sequential_query_params(TASK)
    return params, config, *twohop.forward_with_cache(params, batch.tokens, config)


@pytest.fixture(scope="module")
def guessing(batch):
    params, config = twohop.random_guess_params(TASK)
    return params, config, *twohop.forward_with_cache(params, batch.tokens, config)


@pytest.mark.parametrize("sizes", [(1, 0, 8), (3, 2, 20), (5, 0, 30)])
def test_circuits_do_what_they_are_built_for(sizes):
    task = twohop.TaskConfig(*sizes)
    batch = twohop.sample_batch(jax.random.key(1), task, 64)
    params, config = twohop.sequential_query_params(task)
    logits = twohop.query_logits(params, batch.tokens, config)
    np.testing.assert_array_equal(logits.argmax(-1), batch.answer)
    params, config = twohop.random_guess_params(task)
    probs = jax.nn.softmax(twohop.query_logits(params, batch.tokens, config))
    ends = probs[np.arange(64)[:, None], batch.chains[..., 2]]
    np.testing.assert_allclose(ends, 1 / (task.n_chains + task.n_onehop), rtol=1e-3)


def test_role_probs(batch, sequential, guessing):
    sure = twohop.role_probs(sequential[2][:, -1], batch)
    np.testing.assert_allclose(sure.target_end, 1, rtol=1e-5)
    flat = twohop.role_probs(guessing[2][:, -1], batch)
    np.testing.assert_allclose([flat.target_end, flat.other_end], 0.2, rtol=1e-4)
    assert flat.src_brg < 1e-6
    uniform = twohop.role_probs(jnp.zeros((128, 34)), batch)
    np.testing.assert_allclose(uniform, 1 / 34, rtol=1e-5)


def test_role_probs_with_fillers_and_with_one_chain():
    for sizes in ((1, 0), (2, 3)):
        task = twohop.TaskConfig(*sizes)
        batch = twohop.sample_batch(jax.random.key(2), task, 32)
        logits = jax.random.normal(jax.random.key(3), (32, 34))
        probs = np.asarray(jax.nn.softmax(logits), np.float64)
        inside = np.zeros((32, 34), bool)
        rows = np.arange(32)[:, None]
        inside[rows, np.reshape(batch.chains, (32, -1))] = True
        inside[rows, np.reshape(batch.onehops, (32, -1))] = True
        got = twohop.role_probs(logits, batch)
        np.testing.assert_allclose(got.non_context, probs[~inside].mean(), rtol=1e-4)
        assert np.isnan(got.other_end) == (task.n_chains == 1)


def test_role_attention(batch, sequential, guessing):
    attention = twohop.role_attention(sequential[3].attn_weights, batch)
    assert attention.child_to_parent.shape == (3, 1)
    for value in (
        attention.child_to_parent[0, 0],
        attention.query_to_brg1[1, 0],
        attention.query_to_end[2, 0],
    ):
        np.testing.assert_allclose(value, 1, rtol=1e-5)
    spread = twohop.role_attention(guessing[3].attn_weights, batch)
    for field in ("query_to_brg1", "query_to_end", "query_to_other_brg1", "query_to_other_end"):
        np.testing.assert_allclose(getattr(spread, field)[2, 0], 0.1, rtol=1e-4)


def test_role_attention_against_loops(batch):
    weights = jax.random.uniform(jax.random.key(4), (2, 128, 3, 22, 22))
    got = twohop.role_attention(weights, batch)
    w, positions, target = map(np.asarray, (weights, batch.positions, batch.target))
    parents = np.mean([w[:, :, :, t, t - 1] for t in range(2, 21, 2)], axis=(0, 2))
    np.testing.assert_allclose(got.child_to_parent, parents, rtol=1e-4)
    brg2 = np.mean([w[:, b, :, -1, positions[b, target[b], 2]] for b in range(128)], axis=0)
    np.testing.assert_allclose(got.query_to_brg2, brg2, rtol=1e-4)
    ends = np.mean(
        [
            w[:, b, :, -1, positions[b, k, 3]]
            for b in range(128)
            for k in range(5)
            if k != target[b]
        ],
        axis=0,
    )
    np.testing.assert_allclose(got.query_to_other_end, ends, rtol=1e-4)


def test_attention_by_role_against_loops():
    task = twohop.TaskConfig(n_chains=2, n_onehop=2)
    batch = twohop.sample_batch(jax.random.key(5), task, 16)
    weights = jax.random.uniform(jax.random.key(6), (2, 16, 1, task.seq_len, task.seq_len))
    got = twohop.attention_by_role(weights, batch)
    names = twohop.ATTENTION_ROLES
    total, count = np.zeros((2, 12, 12)), np.zeros(12)
    for b in range(16):
        roles = {0: "first", task.seq_len - 1: "query"}
        for k, places in enumerate(np.asarray(batch.positions[b])):
            for place, role in zip(places, ("src", "brg1", "brg2", "end"), strict=True):
                roles[int(place)] = role if k == batch.target[b] else f"other {role}"
        for i in range(task.seq_len):
            r = names.index(roles.get(i, "filler parent" if i % 2 else "filler child"))
            count[r] += 1
            for j in range(task.seq_len):
                s = names.index(roles.get(j, "filler parent" if j % 2 else "filler child"))
                total[:, r, s] += np.asarray(weights[:, b, 0, i, j])
    np.testing.assert_allclose(got[:, 0], total / count[:, None], rtol=1e-4)


def test_attention_by_role_adds_up(batch, guessing):
    table = twohop.attention_by_role(guessing[3].attn_weights, batch)
    present = [i for i, name in enumerate(twohop.ATTENTION_ROLES) if "filler" not in name]
    np.testing.assert_allclose(table[:, :, np.array(present)].sum(-1), 1, rtol=1e-5)


def test_dissection_of_the_circuits(batch, sequential, guessing):
    end = twohop.dissect(sequential[0], batch, sequential[1])
    assert end.accuracy == 1
    assert min(end.attention.child_to_parent[0], end.attention.query_to_end[2]) > 0.99
    np.testing.assert_array_equal(end.knockouts[:3] < 0.55, True)
    np.testing.assert_array_equal(end.knockouts[3:6], 1)
    np.testing.assert_allclose(end.patches["bridge"][2:, 4], 1, atol=0.02)
    assert end.lens_end[3] > 0.99
    plateau = twohop.dissect(guessing[0], batch, guessing[1])
    np.testing.assert_allclose(plateau.clean, 0.2, atol=1e-3)
    np.testing.assert_allclose(plateau.corrupt["bridge"], 0.2, atol=1e-3)
    np.testing.assert_allclose(plateau.patches["bridge"], 0.2, atol=0.05)
    np.testing.assert_allclose(plateau.child_attention[2], 1, rtol=1e-4)


def test_lenses(batch, sequential, guessing):
    params, config, logits, cache = sequential
    lens = twohop.logit_lens(params, cache, config)
    np.testing.assert_allclose(lens[-1], logits, rtol=1e-5)
    params, config, _, cache = guessing
    ov = twohop.ov_logit_lens(params, cache, config, 2)
    table = twohop.ov_role_logits(ov, batch)
    own = table[np.array([1, 3]), np.array([1, 2])]
    parent = table[np.array([1, 3]), np.array([0, 1])]
    assert (own > 1).all()
    assert (parent < -1).all()
    np.testing.assert_allclose(table[1, 2], table[3, 0], rtol=1e-4)
    for layer in (-1, 3):
        with pytest.raises(ValueError, match=rf"layer must lie in \[0, 3\), got {layer}"):
            twohop.ov_logit_lens(params, cache, config, layer)


def test_ov_lens_applies_the_norm_to_the_written_vector(batch):
    config = twohop.ModelConfig(dim=16, n_heads=2)
    params = twohop.init_params(jax.random.key(0), config)
    _, cache = twohop.forward_with_cache(params, batch.tokens, config)
    got = twohop.ov_logit_lens(params, cache, config, 1)
    layer = jax.tree.map(np.asarray, params["layers"][1])
    x = np.asarray(cache.resid[1])
    h = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    written = h @ layer["wv"] @ layer["wo"]
    centred = written - written.mean(-1, keepdims=True)
    want = centred / np.sqrt(written.var(-1, keepdims=True) + 1e-5) @ np.asarray(params["unembed"])
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("edge", "breaks"),
    [
        ((0, "child_to_parent"), True),
        ((1, "query_to_brg1"), True),
        ((2, "query_to_end"), True),
        ((2, "child_to_parent"), False),
        ((1, "query_to_end"), False),
        ((0, "query_to_brg1"), False),
    ],
)
def test_knockouts_break_exactly_the_circuits_edges(batch, sequential, edge, breaks):
    params, config, *_ = sequential
    bias = twohop.knockout_bias(batch, [edge], config)
    logits, cache = twohop.forward_with_cache(
        params, batch.tokens, config, twohop.Interventions(attn_bias=bias)
    )
    accuracy = (logits[:, -1].argmax(-1) == batch.answer).mean()
    assert accuracy < 0.55 if breaks else accuracy == 1
    attention = twohop.role_attention(cache.attn_weights, batch)
    np.testing.assert_allclose(getattr(attention, edge[1])[edge[0]], 0, atol=1e-6)


def test_knockout_refuses(batch):
    config = twohop.ModelConfig()
    with pytest.raises(ValueError, match=r"layer must lie in \[0, 3\), got 3"):
        twohop.knockout_bias(batch, [(3, "query_to_end")], config)
    with pytest.raises(ValueError, match=r"edge must be one of child_to_parent, .* got 'end'"):
        twohop.knockout_bias(batch, [(0, "end")], config)


@pytest.mark.parametrize(
    ("kind", "carriers"),
    [
        ("bridge", {(0, 1), (1, 1), (2, 4), (3, 4)}),
        ("end", {(0, 3), (1, 3), (2, 3), (3, 4)}),
        ("query", {(0, 4), (1, 4), (2, 4), (3, 4)}),
    ],
)
def test_patches_trace_the_circuits_flow(batch, sequential, kind, carriers):
    params, config, *_ = sequential
    corrupt = twohop.counterfactual(batch, kind, (batch.target + 1) % 5)
    positions = np.asarray(twohop.role_positions(batch))
    sweep = twohop.patch_sweep(
        params, batch.tokens, corrupt.tokens, np.asarray(batch.answer), positions, config
    )
    want = np.zeros((4, 5))
    for place in carriers:
        want[place] = 1
    np.testing.assert_allclose(sweep, want, atol=0.02)


def test_patch_sweep_refuses(batch, sequential):
    params, config, *_ = sequential
    with pytest.raises(ValueError, match=r"\(128, 22\), corrupt_tokens \(128, 20\)"):
        twohop.patch_sweep(
            params,
            batch.tokens,
            batch.tokens[:, :20],
            batch.answer,
            twohop.role_positions(batch),
            config,
        )
