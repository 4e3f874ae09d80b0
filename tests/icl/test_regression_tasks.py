import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab import icl


def synthetic(tasks=400, size=30, dim=2, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    w = np.array([2.0, -1.0]) + 0.5 * rng.normal(size=(tasks, dim))
    X = rng.normal(size=(tasks, size, dim))
    return X, np.einsum("tnd,td->tn", X, w) + noise * rng.normal(size=(tasks, size))


def test_estimated_prior_is_the_generators(tmp_path):
    X, y = synthetic()
    np.savez(tmp_path / "tasks.npz", X=3 * X + 1, y=y)
    tasks = icl.load_tasks(tmp_path / "tasks.npz")
    np.testing.assert_allclose(tasks.X.std((0, 1)), 1)
    np.testing.assert_allclose([tasks.y.mean(), tasks.y.std()], [0, 1], atol=1e-12)
    prior, scale = icl.estimate_prior(tasks), y.std()
    np.testing.assert_allclose(prior.mean * scale, [2.0, -1.0], atol=0.1)
    np.testing.assert_allclose(prior.task_cov * scale**2, 0.25 * np.eye(2), atol=0.05)
    np.testing.assert_allclose(prior.noise_var * scale**2, 0.25, rtol=0.1)
    np.testing.assert_allclose(prior.input_cov, np.eye(2), atol=0.05)


def test_prompts_hold_rows_of_one_task_without_repetition():
    X = np.arange(3 * 5.0).reshape(3, 5, 1)
    y = 10 * X[..., 0]
    prompts = icl.sample_task_prompts(jax.random.key(0), X, y, 4, 50)
    inputs, labels, query = icl.split_tokens(prompts.tokens)
    for x, label, q, target in zip(inputs, labels, query, prompts.target, strict=True):
        rows = sorted([*np.ravel(x), float(q[0])])
        task = int(rows[0] // 5)
        assert rows == list(np.ravel(X[task]))
        np.testing.assert_array_equal(label, 10 * np.ravel(x))
        assert target == 10 * q[0]
    with pytest.raises(ValueError, match="num_context 5 needs tasks of more than 5 rows"):
        icl.sample_task_prompts(jax.random.key(0), X, y, 5, 2)


def test_training_on_tasks_learns_their_common_mean():
    X, y = synthetic(noise=0.1)
    result = icl.train_on_tasks(
        jax.random.key(0),
        icl.init_ltb(jax.random.key(1), 2),
        icl.ltb_apply,
        jnp.asarray(X, jnp.float32),
        jnp.asarray(y, jnp.float32),
        5,
        num_steps=600,
        batch_size=64,
        optimizer=optax.adam(1e-2),
    )
    np.testing.assert_allclose(icl.effective(result.params).skip, [2.0, -1.0], atol=0.2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((2, 3, 1))}, "no array y"),
        ({"X": np.zeros((2, 3)), "y": np.zeros((2, 3))}, r"got \(2, 3\) and \(2, 3\)"),
        ({"X": np.full((2, 3, 1), np.nan), "y": np.zeros((2, 3))}, "X holds NaN"),
    ],
)
def test_load_refuses(tmp_path, arrays, message):
    np.savez(tmp_path / "tasks.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        icl.load_tasks(tmp_path / "tasks.npz")


def test_a_missing_file_and_a_single_task(tmp_path):
    with pytest.raises(FileNotFoundError):
        icl.load_tasks(tmp_path / "none.npz")
    X, y = synthetic(tasks=1)
    with pytest.raises(ValueError, match="at least 2 tasks, got 1"):
        icl.estimate_prior(icl.RegressionTasks(X, y))


@pytest.mark.parametrize("size", [1, 2])
def test_too_few_rows_tell_nothing_about_the_noise(size):
    X, y = synthetic(tasks=5, size=size)
    with pytest.raises(ValueError, match=f"got {size} rows of 2 features: give larger tasks"):
        icl.estimate_prior(icl.RegressionTasks(X, y))


def test_diabetes_strata():
    pytest.importorskip("sklearn")
    tasks = icl.diabetes_tasks()
    assert tasks.X.shape == (17, 26, 9)
    with pytest.raises(ValueError, match="num_tasks must lie between 2 and 36, got 1"):
        icl.diabetes_tasks(1)
