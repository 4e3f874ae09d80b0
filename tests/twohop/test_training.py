import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import twohop
from jaxlab.twohop import training

TASK = twohop.TaskConfig(n_chains=2, vocab_size=8)
MODEL = twohop.ModelConfig(n_tokens=12, max_len=10, dim=16)
FAST = twohop.TrainConfig("muon", lr=1e-2, batch_size=32, steps=60, eval_every=20, eval_size=64)


def test_same_key_same_bits_and_the_history_is_complete():
    first = twohop.train(jax.random.key(0), TASK, MODEL, FAST)
    again = twohop.train(jax.random.key(0), TASK, MODEL, FAST)
    chex.assert_trees_all_equal(first.params, again.params)
    history = first.history
    np.testing.assert_array_equal(history["step"], [20, 40, 60])
    assert history["child_to_parent"].shape == (3, 3, 1)
    wanted = {"step", "loss", "eval_loss", "accuracy", *twohop.RoleProbs._fields}
    assert set(history) == wanted | set(twohop.RoleAttention._fields)
    assert history["loss"][-1] < history["loss"][0]
    assert history["loss"][0] < np.log(12) + 1


def test_optimizers_against_numpy():
    """Three steps of AdamW, on every leaf; Muon moves vectors as Nesterov's Adam, without decay."""
    rng = np.random.default_rng(0)
    params = {"matrix": rng.normal(size=(4, 3)), "vector": rng.normal(size=3)}
    gradients = [jax.tree.map(lambda x: rng.normal(size=x.shape), params) for _ in range(3)]
    settings = {"lr": 0.1, "b1": 0.8, "b2": 0.95}

    def moved(name, **more):
        tx = training.make_optimizer(twohop.TrainConfig(name, **settings, **more))
        now = jax.tree.map(jnp.float32, params)
        state = tx.init(now)
        for gradient in gradients:
            updates, state = tx.update(jax.tree.map(jnp.float32, gradient), state, now)
            now = jax.tree.map(jnp.add, now, updates)
        return now

    def adam(name, decay=0.0, nesterov=False):
        x, first, second = params[name], 0.0, 0.0
        for t, gradient in enumerate((g[name] for g in gradients), start=1):
            first = 0.8 * first + 0.2 * gradient
            second = 0.95 * second + 0.05 * gradient**2
            mean = first / (1 - 0.8**t)
            if nesterov:
                mean = 0.8 * first / (1 - 0.8 ** (t + 1)) + 0.2 * gradient / (1 - 0.8**t)
            step = mean / (np.sqrt(second / (1 - 0.95**t)) + 1e-8)
            x = x - 0.1 * (step + decay * x)
        return x

    got = moved("adamw", weight_decay=0.3)
    for name in params:
        np.testing.assert_allclose(got[name], adam(name, 0.3), rtol=1e-5)
    got = moved("muon", weight_decay=0.3)
    np.testing.assert_allclose(got["vector"], adam("vector", nesterov=True), rtol=1e-5)
    assert not np.allclose(got["matrix"], adam("matrix", nesterov=True), rtol=1e-2)


def test_a_resumed_run_ends_with_the_same_bits():
    seen = []
    whole = twohop.train(
        jax.random.key(0), TASK, MODEL, FAST, on_eval=lambda p: seen.append(jax.device_get(p))
    )
    resumed = twohop.train(jax.random.key(0), TASK, MODEL, FAST, progress=seen[0])
    chex.assert_trees_all_equal(resumed.params, whole.params)
    chex.assert_trees_all_equal(resumed.history, whole.history)


def test_checkpoints_stopping_and_warm_start():
    keep = dataclasses.replace(FAST, keep_every=40, stop_accuracy=0.0, stop_after=20)
    start = twohop.init_params(jax.random.key(9), MODEL)
    result = twohop.train(jax.random.key(0), TASK, MODEL, keep, params=start)
    np.testing.assert_array_equal(result.history["step"], [20, 40])
    assert set(result.checkpoints) == {40}
    chex.assert_trees_all_equal(result.checkpoints[40], jax.device_get(result.params))
    assert np.isfinite(start["tok"]).all()  # not donated away
    one = dataclasses.replace(FAST, steps=20)
    moved = twohop.train(jax.random.key(0), TASK, MODEL, one, params=start).params
    assert 0 < abs(moved["tok"] - start["tok"]).max() < 1


def test_parameters_are_kept_between_evaluations_too():
    """And keeping them changes nothing but the order of a sum."""
    often = dataclasses.replace(FAST, steps=50, keep_every=15, stop_accuracy=None)
    seen = []
    result = twohop.train(jax.random.key(0), TASK, MODEL, often, on_eval=seen.append)
    assert set(result.checkpoints) == {15, 30, 45}
    np.testing.assert_array_equal(result.history["step"], [20, 40, 50])
    without = twohop.train(jax.random.key(0), TASK, MODEL, dataclasses.replace(often, keep_every=0))
    chex.assert_trees_all_close(result.params, without.params, atol=1e-5)
    chex.assert_trees_all_close(result.history, without.history, rtol=1e-4, atol=1e-5)
    like = training.progress_like(TASK, MODEL, often, 50)
    chex.assert_trees_all_equal_shapes_and_dtypes(like.checkpoints, seen[-1].checkpoints)


def test_the_last_chunk_ends_where_the_steps_do():
    short = dataclasses.replace(FAST, steps=50, stop_accuracy=None)
    result = twohop.train(jax.random.key(0), TASK, MODEL, short)
    np.testing.assert_array_equal(result.history["step"], [20, 40, 50])


def test_a_progress_has_the_structure_to_restore_it_into():
    keep = dataclasses.replace(FAST, steps=50, keep_every=40)

    def check(progress):
        like = training.progress_like(TASK, MODEL, keep, int(progress.history["step"][-1]))
        chex.assert_trees_all_equal_shapes_and_dtypes(like, progress)

    twohop.train(jax.random.key(0), TASK, MODEL, keep, on_eval=check)


def test_no_compilation_in_steady_state():
    before = training._chunk._cache_size()
    twohop.train(jax.random.key(1), TASK, MODEL, dataclasses.replace(FAST, steps=100))
    assert training._chunk._cache_size() - before <= 1


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"optimizer": "sgd"}, "one of adamw, muon, got 'sgd'"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"batch_size": 0}, "batch_size must be >= 1"),
        ({"eval_every": 0}, "eval_every must be >= 1"),
    ],
)
def test_config_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        twohop.TrainConfig(**kwargs)


def test_task_and_model_must_agree():
    with pytest.raises(ValueError, match="the model has 34 tokens, the task 12"):
        twohop.train(jax.random.key(0), TASK, twohop.ModelConfig(dim=8), FAST)
    with pytest.raises(ValueError, match="10 positions exceed max_len 8"):
        twohop.train(jax.random.key(0), TASK, dataclasses.replace(MODEL, max_len=8), FAST)


def test_a_stuck_run_is_told():
    history = {
        "step": np.array([450, 500]),
        "loss": np.array([3.0, 2.3]),
        "child_to_parent": np.full((2, 3, 1), 0.04),
    }
    with pytest.warns(UserWarning, match="lower the learning rate 0.01"):
        training.warn_if_stuck(history, twohop.TrainConfig(lr=1e-2))
