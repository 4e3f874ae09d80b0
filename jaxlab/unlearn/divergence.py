"""How fast gradient ascent and NPO leave a logistic model: the setting of Theorem 2.

Source: Zhang, Lin, Bai and Mei, arXiv 2404.05868, section 4.
"""

import functools

import jax
import jax.numpy as jnp

from jaxlab.checks import check_at_least, check_choice
from jaxlab.unlearn.preference_losses import ga_loss, npo_loss
from jaxlab.unlearn.static_checks import require_positive


def divergence_curve(
    x: jax.Array,
    y: jax.Array,
    theta0: jax.Array,
    *,
    loss: str,
    lr: float,
    num_steps: int,
    beta: float = 1.0,
) -> jax.Array:
    """Distance `||X (theta_t - theta_0)||_2` along gradient descent on a forget loss.

    The model is `pi(y = 1 | x) = sigmoid(<x, theta>)`, the loss the mean over all rows. Gradient
    ascent leaves linearly in t, NPO logarithmically.

    Args:
      x: `[n, d]` forget set.
      y: `[n]` labels, 0 or 1.
      theta0: `[d]` start, and NPO's reference.
      loss: `ga` or `npo`.
      lr: stepsize.
      num_steps: T.
      beta: of NPO, > 0.

    Returns:
      `[T + 1]`, beginning with 0.

    Raises:
      ValueError: unknown loss, beta <= 0, num_steps < 0, or shapes that do not fit.
    """
    check_choice("loss", loss, ("ga", "npo"))
    require_positive("beta", beta)
    x, y, theta0 = jnp.asarray(x), jnp.asarray(y), jnp.asarray(theta0)
    if x.ndim != 2 or y.shape != x.shape[:1] or theta0.shape != x.shape[1:]:
        raise ValueError(
            f"need x [n, d], y [n] and theta0 [d], got {x.shape}, {y.shape} and {theta0.shape}"
        )
    check_at_least("num_steps", num_steps, 0)
    return _curve(x, y, theta0, loss, lr, num_steps, beta)


@functools.partial(jax.jit, static_argnames=("loss", "num_steps"))
def _curve(x, y, theta0, loss, lr, num_steps, beta):
    signed = (2 * y.astype(x.dtype) - 1)[:, None] * x

    def log_prob(theta):
        return jax.nn.log_sigmoid(signed @ theta)

    reference = log_prob(theta0)

    def objective(theta):
        logp = log_prob(theta)
        return jnp.mean(ga_loss(logp) if loss == "ga" else npo_loss(logp, reference, beta=beta))

    def step(theta, _):
        theta = theta - lr * jax.grad(objective)(theta)
        return theta, jnp.linalg.norm(x @ (theta - theta0))

    distances = jax.lax.scan(step, theta0, length=num_steps)[1]
    return jnp.concatenate([jnp.zeros(1, distances.dtype), distances])
