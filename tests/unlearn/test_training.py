import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import unlearn
from jaxlab.unlearn.training import epoch_order
from tests.unlearn.tiny import apply_fn, hidden_fn, params, rows, tiny_head, tree_close

FORGET, RETAIN, IDK = rows(1, count=7), rows(2, count=9), rows(3, count=7)
TX = optax.adam(1e-2)


def run(name="npo+rt", **changes):
    settings = {
        "cfg": unlearn.method_config(name),
        "optimizer": TX,
        "num_steps": 6,
        "batch_size": 3,
        "retain": RETAIN,
        "idk": IDK,
    }
    key = jax.random.key(changes.pop("seed", 0))
    return unlearn.unlearn(key, apply_fn, params(), FORGET, **(settings | changes))


@pytest.mark.parametrize("name", ["ga+kl", "dpo+rt", "npo+rt"])
def test_equals_a_loop_over_steps(name):
    cfg = unlearn.method_config(name)
    result = run(name)
    forget_key, retain_key = jax.random.split(jax.random.key(0))
    order = epoch_order(forget_key, 7, 6, 3)
    kept = jax.random.randint(retain_key, (6, 3), 0, 9, jnp.int32)
    step = unlearn.make_step(unlearn.make_objective(apply_fn, cfg), TX)
    state, losses = unlearn.init_state(params(), TX), []
    for index, others in zip(order, kept, strict=True):
        take = lambda part, i: unlearn.LMBatch(part.tokens[i], part.labels[i])  # noqa: E731
        batch = unlearn.UnlearnBatch(take(FORGET, index), take(RETAIN, others), take(IDK, index))
        state, metrics = step(state, params(), batch)
        losses.append(metrics["loss"])
    tree_close(result.params, state.params, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.history["loss"], losses, rtol=1e-4)
    assert set(result.history) == {
        "loss",
        "forget_loss",
        "retain_loss",
        "forget_logp",
        "grad_norm",
    }
    assert all(row.shape == (6,) for row in result.history.values())


def test_the_same_key_gives_the_same_bits():
    jax.tree.map(np.testing.assert_array_equal, run(), run())
    assert not np.array_equal(run(seed=1).history["loss"], run().history["loss"])


def test_forgets_and_keeps():
    long = {"num_steps": 60, "batch_size": 7}
    kept = run(cfg=unlearn.method_config("npo+rt", retain_coeff=3.0), **long)
    lost = run("npo", **long)
    for result in (kept, lost):
        assert result.history["forget_logp"][-1] < result.history["forget_logp"][0] - 5
    after_kept, after_lost = (
        unlearn.reference_logprobs(apply_fn, result.params, RETAIN).mean()
        for result in (kept, lost)
    )
    assert after_kept > after_lost + 5


def test_the_reference_is_where_it_starts_unless_given():
    np.testing.assert_allclose(run().history["forget_loss"][0], 20 * np.log(2), rtol=1e-5)
    other = run(ref_params=params(4)).history["forget_loss"][0]
    assert abs(other - 20 * np.log(2)) > 0.1


def test_a_sweep_over_numbers_compiles_once():
    from jaxlab.unlearn import training

    jax.clear_caches()
    for beta in (0.1, 0.2, 0.4):
        run(cfg=unlearn.method_config("npo+rt", beta=beta, retain_coeff=beta))
    assert training._unlearn._cache_size() == 1
    chex.assert_tree_all_finite(run().params)


def test_snapshots_end_in_the_same_model():
    plain, path = run(), run(num_snapshots=3)
    assert path.params["embed"].shape[0] == 3
    tree_close(jax.tree.map(lambda x: x[-1], path.params), plain.params, rtol=1e-6, atol=1e-7)
    assert path.history["loss"].shape == (6,)
    tree_close(path.history, plain.history, rtol=1e-6)
    early = run(num_steps=2, num_snapshots=1)
    assert early.params["embed"].shape[0] == 1


def test_every_epoch_visits_all_rows():
    order = np.asarray(epoch_order(jax.random.key(0), 6, 8, 3)).reshape(4, 6)
    assert (np.sort(order) == np.arange(6)).all()
    assert len({tuple(epoch) for epoch in order}) > 1


def test_reference_logprobs_do_not_depend_on_the_batch_size():
    exact = unlearn.sequence_logprobs(apply_fn(params(), FORGET.tokens), FORGET.labels).logp
    for size in (1, 4, 64):
        got = unlearn.reference_logprobs(apply_fn, params(), FORGET, batch_size=size)
        np.testing.assert_allclose(got, exact, rtol=1e-5)
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        unlearn.reference_logprobs(apply_fn, params(), FORGET, batch_size=0)


def test_relearn_is_likelihood_training():
    result = unlearn.relearn(
        jax.random.key(0), apply_fn, params(), FORGET, optimizer=TX, num_steps=80, batch_size=7
    )
    assert result.history["loss"][-1] < 0.7 * result.history["loss"][0]
    answers = unlearn.sequence_logprobs(apply_fn(params(), FORGET.tokens), FORGET.labels)
    expected = -answers.logp.sum() / answers.length.sum()
    np.testing.assert_allclose(result.history["loss"][0], expected, rtol=1e-5)


def test_schedule():
    schedule = unlearn.warmup_linear(2.0, 5, 4)
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 1, 5, 10, 20)], [0, 0.4, 2, 4 / 3, 0], atol=1e-6
    )
    with pytest.raises(ValueError, match="must be >= 1, got 0, 4"):
        unlearn.warmup_linear(1.0, 0, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 8}, "batch_size must lie in 1..7"),
        ({"batch_size": 0}, "batch_size must lie in 1..7"),
        ({"num_steps": 0}, "num_steps must be >= 1"),
        ({"num_snapshots": 4}, "num_snapshots must divide the 6 steps"),
        ({"retain": None}, "needs retain rows"),
        ({"cfg": unlearn.method_config("dpo"), "idk": None}, "needs refusals"),
        ({"idk": rows(3, count=4)}, "idk has 4 rows and forget 7"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        run(**changes)


def test_refuses_an_empty_set():
    empty = unlearn.LMBatch(np.zeros((0, 9), np.int32), np.zeros((0, 9), np.int32))
    with pytest.raises(ValueError, match="forget is empty"):
        unlearn.unlearn(
            jax.random.key(0),
            apply_fn,
            params(),
            empty,
            cfg=unlearn.method_config("ga"),
            optimizer=TX,
            num_steps=1,
            batch_size=1,
        )
    with pytest.raises(ValueError, match="data is empty"):
        unlearn.relearn(
            jax.random.key(0), apply_fn, params(), empty, optimizer=TX, num_steps=1, batch_size=1
        )


@pytest.mark.parametrize("name", ["npo+rt", "dpo+kl", "ga"])
def test_a_head_of_its_own_changes_nothing(name):
    cfg = unlearn.method_config(name)
    head = tiny_head(None)
    # Adam would divide rounding by its own size.
    settings = {"retain": RETAIN, "idk": IDK, "cfg": cfg, "optimizer": optax.sgd(1e-2)}
    settings |= {"num_steps": 5, "batch_size": 3}
    key = jax.random.key(0)
    parted = unlearn.unlearn(key, hidden_fn, params(), FORGET, head=head, **settings)
    whole = unlearn.unlearn(key, apply_fn, params(), FORGET, **settings)
    tree_close(parted, whole, rtol=1e-4, atol=1e-5)
    again = {"optimizer": optax.sgd(1e-2), "num_steps": 4, "batch_size": 2}
    tree_close(
        unlearn.relearn(jax.random.key(1), hidden_fn, params(), FORGET, head=head, **again),
        unlearn.relearn(jax.random.key(1), apply_fn, params(), FORGET, **again),
        rtol=1e-4,
        atol=1e-5,
    )
