import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import parallel, unlearn
from tests.unlearn.tiny import (
    apply_fn,
    hidden_fn,
    numpy_answers,
    params,
    rows,
    tiny_head,
    tree_close,
)

FORGET, RETAIN, IDK = rows(1), rows(2), rows(3)
BATCH = unlearn.UnlearnBatch(FORGET, RETAIN, IDK)
MODEL, REFERENCE = params(0), params(5)


def numpy_loss(cfg):
    """The loss from log-probabilities of a plain loop, in float64."""
    (f, n), (r, m), (i, k) = (numpy_answers(MODEL, part) for part in (FORGET, RETAIN, IDK))
    (f0, _), (i0, _) = (numpy_answers(REFERENCE, part) for part in (FORGET, IDK))
    beta, softplus = cfg.beta, lambda z: np.logaddexp(0, z)

    def reduce(logp, length):
        return {
            "token": logp.sum() / length.sum(),
            "sequence": logp.mean(),
            "length": (logp / length).mean(),
        }[cfg.reduction]

    level = beta * (i - i0).mean()
    forget = {
        "ga": lambda: reduce(f, n),
        "npo": lambda: (2 / beta * softplus(beta * (f - f0))).mean(),
        "simnpo": lambda: (2 / beta * softplus(beta * f / n + cfg.gamma)).mean(),
        "idk": lambda: -reduce(i, k),
        "dpo": lambda: (2 / beta * softplus(-beta * ((i - i0) - (f - f0)))).mean(),
        "kto": lambda: (2 / beta * softplus(beta * (f - f0) - level)).mean(),
    }[cfg.method]()
    retain = -reduce(r, m) if cfg.retain == "nll" else 0.0
    return cfg.forget_coeff * forget + cfg.retain_coeff * retain, forget, retain, f.mean()


@pytest.mark.parametrize("reduction", ["token", "sequence", "length"])
@pytest.mark.parametrize(
    "name", ["ga", "ga+rt", "idk+rt", "dpo", "dpo+rt", "kto", "kto+rt", "npo+rt", "simnpo+rt"]
)
def test_matches_numpy(name, reduction):
    cfg = unlearn.method_config(name, reduction=reduction, retain_coeff=0.7)
    loss, aux = unlearn.make_objective(apply_fn, cfg)(MODEL, REFERENCE, BATCH)
    expected, forget, retain, logp = numpy_loss(cfg)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)
    np.testing.assert_allclose(aux["forget_loss"], forget, rtol=2e-5)
    np.testing.assert_allclose(aux["retain_loss"], retain, rtol=2e-5)
    np.testing.assert_allclose(aux["forget_logp"], logp, rtol=2e-5)


@pytest.mark.parametrize("name", ["npo+rt", "dpo+kl", "kto+rt", "simnpo+rt", "wga"])
def test_a_chunked_head_gives_the_same_loss_and_gradient(name):
    cfg = unlearn.UnlearnConfig("wga", "nll") if name == "wga" else unlearn.method_config(name)

    def run(model, **head):
        objective = unlearn.make_objective(model, cfg, **head)
        return jax.value_and_grad(objective, has_aux=True)(MODEL, REFERENCE, BATCH)

    tree_close(run(hidden_fn, head=tiny_head(5)), run(apply_fn), rtol=2e-5, atol=1e-6)


def test_reference_values_of_a_chunked_head():
    np.testing.assert_allclose(
        unlearn.reference_logprobs(hidden_fn, MODEL, FORGET, batch_size=4, head=tiny_head(5)),
        unlearn.reference_logprobs(apply_fn, MODEL, FORGET),
        rtol=1e-5,
    )


def test_kl_scores_the_positions_that_predict_scored_tokens():
    cfg = unlearn.method_config("ga+kl")
    _, aux = unlearn.make_objective(apply_fn, cfg)(MODEL, REFERENCE, BATCH)
    logits, ref = (apply_fn(p, RETAIN.tokens)[:, :-1] for p in (MODEL, REFERENCE))
    expected = unlearn.kl_loss(logits, ref, RETAIN.labels[:, 1:] != -100)
    np.testing.assert_allclose(aux["retain_loss"], expected, rtol=1e-6)


def test_wga_and_none():
    cfg = unlearn.UnlearnConfig(method="wga", beta=2.0)
    loss, _ = unlearn.make_objective(apply_fn, cfg)(MODEL, None, BATCH)
    tokens = unlearn.token_logprobs(apply_fn(MODEL, FORGET.tokens), FORGET.labels)
    np.testing.assert_allclose(loss, unlearn.wga_loss(*tokens, beta=2.0), rtol=1e-6)
    cfg = unlearn.UnlearnConfig(method="none", retain="nll")
    loss, aux = unlearn.make_objective(apply_fn, cfg)(MODEL, None, BATCH)
    assert aux["forget_loss"] == 0
    logp, length = numpy_answers(MODEL, RETAIN)
    np.testing.assert_allclose(loss, -logp.sum() / length.sum(), rtol=2e-5)


def gradient(cfg, batch, ref=REFERENCE):
    objective = unlearn.make_objective(apply_fn, cfg)
    return jax.grad(lambda p: objective(p, ref, batch)[0])(MODEL)


def weighted_gradient(weights):
    def total(p):
        answers = unlearn.sequence_logprobs(apply_fn(p, FORGET.tokens), FORGET.labels)
        return jnp.mean(weights * answers.logp)

    return jax.grad(total)(MODEL)


def test_gradients_are_weighted_ascent():
    now = unlearn.sequence_logprobs(apply_fn(MODEL, FORGET.tokens), FORGET.labels)
    before = unlearn.sequence_logprobs(apply_fn(REFERENCE, FORGET.tokens), FORGET.labels)
    sums = unlearn.UnlearnConfig(method="ga", reduction="sequence")
    tree_close(gradient(sums, BATCH), weighted_gradient(1.0), rtol=1e-4, atol=1e-6)
    npo = unlearn.method_config("npo", beta=0.3)
    weights = unlearn.npo_weight(now.logp, before.logp, beta=0.3)
    tree_close(gradient(npo, BATCH), weighted_gradient(weights), rtol=1e-4, atol=1e-6)
    simnpo = unlearn.method_config("simnpo", gamma=0.4)
    weights = unlearn.simnpo_weight(now.logp, now.length, beta=2.5, gamma=0.4)
    tree_close(gradient(simnpo, BATCH), weighted_gradient(weights), rtol=1e-4, atol=1e-6)


def test_npo_starts_as_ascent_and_tends_to_it_as_beta_vanishes():
    ascent = gradient(unlearn.UnlearnConfig(method="ga", reduction="sequence"), BATCH)
    at_start = gradient(unlearn.method_config("npo", beta=0.7), BATCH, ref=MODEL)
    tree_close(at_start, ascent, rtol=1e-4, atol=1e-6)
    small = gradient(unlearn.method_config("npo", beta=1e-4), BATCH)
    tree_close(small, ascent, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", ["npo+rt", "dpo+rt", "kto", "npo+kl"])
def test_cached_reference_gives_the_same_and_wins_over_parameters(name):
    cfg = unlearn.method_config(name)
    cached = BATCH._replace(
        ref_forget_logp=unlearn.reference_logprobs(apply_fn, REFERENCE, FORGET, batch_size=4),
        ref_idk_logp=unlearn.reference_logprobs(apply_fn, REFERENCE, IDK),
    )
    objective = unlearn.make_objective(apply_fn, cfg)
    expected, _ = objective(MODEL, REFERENCE, BATCH)
    other = REFERENCE if "kl" in name else None
    np.testing.assert_allclose(objective(MODEL, other, cached)[0], expected, rtol=1e-5)
    wrong = cached._replace(ref_forget_logp=cached.ref_forget_logp + 5)
    assert abs(objective(MODEL, REFERENCE, wrong)[0] - expected) > 1e-3


@pytest.mark.parametrize("name", ["npo+kl", "dpo+kl", "kto"])
def test_no_gradient_flows_into_the_reference(name):
    objective = unlearn.make_objective(apply_fn, unlearn.method_config(name))
    slope = jax.grad(lambda ref: objective(MODEL, ref, BATCH)[0])(REFERENCE)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), slope)


def test_parts_of_other_lengths_go_through_by_themselves():
    longer = rows(2, length=12)
    cfg = unlearn.method_config("npo+rt")
    _, aux = unlearn.make_objective(apply_fn, cfg)(MODEL, REFERENCE, BATCH._replace(retain=longer))
    logp, length = numpy_answers(MODEL, longer)
    np.testing.assert_allclose(aux["retain_loss"], -logp.sum() / length.sum(), rtol=2e-5)


def test_one_forward_pass_for_all_rows():
    calls = []

    def counted(p, tokens):
        calls.append(tokens.shape)
        return apply_fn(p, tokens)

    unlearn.make_objective(counted, unlearn.method_config("dpo+kl"))(MODEL, REFERENCE, BATCH)
    assert calls == [(18, 9), (18, 9)]  # reference and model: forget, retain, refusals


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("idk+rt", {"idk": None}, "needs idk rows"),
        ("dpo", {"idk": None}, "needs idk rows"),
        ("kto", {"idk": None}, "needs idk rows"),
        ("ga+rt", {"retain": None}, "needs retain rows"),
        ("ga+kl", {"retain": None}, "needs retain rows"),
        ("npo", {}, "needs the reference model on forget rows"),
        ("dpo+kl", {}, "needs the reference model on forget, idk, retain rows"),
    ],
)
def test_missing_parts_are_named_before_any_forward_pass(name, missing, message):
    def never(p, tokens):
        raise AssertionError("the model ran")

    objective = unlearn.make_objective(never, unlearn.method_config(name))
    with pytest.raises(ValueError, match=message):
        objective(MODEL, None, BATCH._replace(**missing))


def test_simnpo_needs_no_reference():
    objective = unlearn.make_objective(apply_fn, unlearn.method_config("simnpo+rt"))
    assert np.isfinite(objective(MODEL, None, BATCH._replace(idk=None))[0])


@pytest.mark.parametrize(
    "name", ["ga+kl", "idk+rt", "dpo+rt", "kto+rt", "npo+kl", "simnpo+rt", "wga"]
)
def test_devices_add_up_to_the_whole_batch(name):
    """Rows hold unequal numbers of tokens, so that a mean of the devices' means would be wrong."""
    if name == "wga":
        cfg = unlearn.UnlearnConfig(method="wga", beta=1.0)
    else:
        cfg = unlearn.method_config(name)
    batch = unlearn.UnlearnBatch(*(rows(seed, count=8) for seed in (1, 2, 3)))
    whole, whole_aux = unlearn.make_objective(apply_fn, cfg)(MODEL, REFERENCE, batch)
    shares = unlearn.make_objective(apply_fn, cfg, axis_name="i")
    split = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)
    total, aux = jax.vmap(
        lambda part: jax.lax.psum(shares(MODEL, REFERENCE, part), "i"), axis_name="i"
    )(split)
    np.testing.assert_allclose(total[0], whole, rtol=1e-5)
    for field, value in whole_aux.items():
        np.testing.assert_allclose(aux[field][0], value, rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_pmap_gives_the_numbers_of_one_device(devices):
    cfg = unlearn.method_config("kto+rt")
    batch = unlearn.UnlearnBatch(
        *(rows(seed, count=8) for seed in (1, 2, 3)),
        unlearn.reference_logprobs(apply_fn, REFERENCE, rows(1, count=8)),
        unlearn.reference_logprobs(apply_fn, REFERENCE, rows(3, count=8)),
    )
    tx = optax.adam(1e-2)

    def train(form, **where):
        loss = unlearn.data_parallel_loss(apply_fn, cfg, mapped=form == "pmap")
        step = parallel.make_train_step(loss, tx, parallel=form, **where)
        state = parallel.init_train_state(params(0), tx)
        for _ in range(3):
            state, metrics = step(state, batch, jax.random.key(0))
        return state.params, metrics

    expected, metrics = train("jit")
    got, other = train("pmap", devices=jax.local_devices()[:devices])
    tree_close(got, expected, rtol=1e-5, atol=1e-5)
    for name, value in metrics.items():
        np.testing.assert_allclose(other[name], value, rtol=1e-5)


def test_step_adds_gradients_over_a_mapped_axis():
    cfg, tx = unlearn.method_config("npo+rt"), optax.sgd(0.1)
    batch = unlearn.UnlearnBatch(rows(1, count=8), rows(2, count=8))
    state = unlearn.init_state(MODEL, tx)
    step = unlearn.make_step(unlearn.make_objective(apply_fn, cfg), tx)
    expected, metrics = jax.jit(step)(state, REFERENCE, batch)
    mapped = unlearn.make_step(
        unlearn.make_objective(apply_fn, cfg, axis_name="i"), tx, axis_name="i"
    )
    split = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), batch)
    got, other = jax.vmap(lambda part: mapped(state, REFERENCE, part), axis_name="i")(split)
    tree_close(jax.tree.map(lambda x: x[0], got.params), expected.params, rtol=1e-5, atol=1e-6)
    assert int(expected.step) == 1
    assert set(metrics) == {"loss", "forget_loss", "retain_loss", "forget_logp", "grad_norm"}
    np.testing.assert_allclose(other["grad_norm"][0], metrics["grad_norm"], rtol=1e-5)


def test_config_defaults_and_errors():
    assert unlearn.method_config("simnpo+rt").forget_coeff == 0.1375
    assert unlearn.method_config("simnpo").beta == 2.5
    assert unlearn.method_config("npo+kl") == unlearn.UnlearnConfig(retain="kl")
    assert unlearn.method_config("npo", beta=0.2).beta == 0.2
    for field in ("method", "retain", "reduction"):
        with pytest.raises(ValueError, match=f"{field} must be one of .* got 'x'"):
            unlearn.UnlearnConfig(**{field: "x"})
    with pytest.raises(ValueError, match=r"method must be one of .* got 'npo\+x'"):
        unlearn.method_config("npo+x")
    with pytest.raises(ValueError, match="beta must be > 0, got 0"):
        unlearn.UnlearnConfig(beta=0)
    with pytest.raises(ValueError, match="gamma must be >= 0, got -1"):
        dataclasses.replace(unlearn.UnlearnConfig(), gamma=-1)
