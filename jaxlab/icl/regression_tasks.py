"""Collections of real regression tasks: loading, a prior estimated from them, prompts from them."""

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab.icl.prior import TaskPrior, make_prior
from jaxlab.icl.prompts import Prompts, check_num_context, make_tokens
from jaxlab.user_files import read_arrays


class RegressionTasks(NamedTuple):
    """Tasks of equal size.

    Attributes:
      X: `[tasks, N, d]` inputs, each feature standardised over all tasks.
      y: `[tasks, N]` labels, standardised over all tasks.
    """

    X: np.ndarray
    y: np.ndarray


def load_tasks(path: str | os.PathLike) -> RegressionTasks:
    """Reads `X [tasks, N, d]` and `y [tasks, N]` from an `.npz` file and standardises them.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an array is missing, has the wrong shape, or holds NaN or infinity; the message
        names the file.
    """
    arrays = read_arrays(path, ("X", "y"))
    try:
        return standardise(*(np.asarray(arrays[name], np.float64) for name in ("X", "y")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def diabetes_tasks(num_tasks: int = 17) -> RegressionTasks:
    """scikit-learn's bundled diabetes data (442 patients, 10 features) cut into age strata.

    Age is left out of the features. The strata share most of their regression: tasks with a
    common mean. An illustration on real data, not evidence for a claim.

    Raises:
      ImportError: scikit-learn is not installed.
      ValueError: fewer than 2 tasks, or too many for 12 patients each.
    """
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    size = len(y) // num_tasks
    if num_tasks < 2 or size < 12:
        raise ValueError(f"num_tasks must lie between 2 and {len(y) // 12}, got {num_tasks}")
    strata = np.argsort(X[:, 0], kind="stable")[: num_tasks * size].reshape(num_tasks, size)
    return standardise(X[strata][:, :, 1:], y[strata])


def standardise(X: np.ndarray, y: np.ndarray) -> RegressionTasks:
    """Centres and scales features and labels over all tasks together.

    Raises:
      ValueError: shapes that do not belong together, or non-finite numbers.
    """
    if X.ndim != 3 or y.shape != X.shape[:2]:
        raise ValueError(f"wanted X [tasks, N, d] and y [tasks, N], got {X.shape} and {y.shape}")
    for name, array in (("X", X), ("y", y)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity; remove those rows")
    spread = X.std((0, 1))
    X = (X - X.mean((0, 1))) / np.where(spread > 0, spread, 1)
    return RegressionTasks(X, (y - y.mean()) / (y.std() or 1.0))


def estimate_prior(tasks: RegressionTasks, *, ridge: float = 1.0) -> TaskPrior:
    """Moments of the tasks: mean and spread of per-task ridge weights, residuals, inputs.

    Args:
      tasks: at least two, each with more rows than features.
      ridge: penalty of the per-task fits around the pooled one, in observations.

    Raises:
      ValueError: fewer than two tasks, or no more rows in each than features: their residuals tell
        nothing about the noise.
    """
    X, y = tasks
    count, size, dim = X.shape
    if count < 2:
        raise ValueError(f"a prior needs at least 2 tasks, got {count}")
    if size <= dim:
        raise ValueError(
            "the noise is estimated from tasks of more rows than features, got "
            f"{size} rows of {dim} features: give larger tasks or fewer features"
        )
    gram, moment = np.einsum("tnd,tne->tde", X, X), np.einsum("tnd,tn->td", X, y)
    penalty = ridge * np.eye(dim)
    mean = np.linalg.solve(gram.sum(0) + penalty, moment.sum(0))
    shift = np.linalg.solve(gram + penalty, (moment - gram @ mean)[..., None])[..., 0]
    residual = y - np.einsum("tnd,td->tn", X, mean + shift)
    noise_var = (residual**2).sum() / (count * (size - dim))
    input_cov = np.einsum("tnd,tne->de", X, X) / (count * size) + 1e-6 * np.eye(dim)
    return make_prior(
        mean, task_cov=shift.T @ shift / count, input_cov=input_cov, noise_var=noise_var
    )


def sample_task_prompts(
    key: jax.Array, X: jax.Array, y: jax.Array, num_context: int, batch_size: int
) -> Prompts:
    """Prompts of `num_context` examples and a query, drawn without repetition from random tasks.

    `weights` of the result are zero: real tasks have none that are known.

    Raises:
      ValueError: `num_context` below 1 or not below the size of a task.
    """
    check_num_context(num_context)
    count, size, dim = X.shape
    if num_context >= size:
        raise ValueError(f"num_context {num_context} needs tasks of more than {size} rows")
    task_key, row_key = jax.random.split(key)
    task = jax.random.randint(task_key, (batch_size,), 0, count)
    order = jnp.argsort(jax.random.uniform(row_key, (batch_size, size)), axis=1)
    rows = order[:, : num_context + 1]
    x, label = X[task[:, None], rows], y[task[:, None], rows]
    tokens = make_tokens(x[:, :-1], label[:, :-1], x[:, -1])
    return Prompts(tokens, label[:, -1], jnp.zeros((batch_size, dim), tokens.dtype))
