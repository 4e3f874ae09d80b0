import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab.runs import check_finite, save_checkpoint


def test_finite_numbers_pass():
    check_finite(3, {"loss": -1e30, "grad_norm": np.float32(2), "weight": jnp.ones(())})


@pytest.mark.parametrize("value", [np.nan, -np.inf, jnp.array(jnp.inf)])
def test_the_step_the_metric_and_the_last_good_checkpoint_are_named(tmp_path, value):
    scalars = {"loss": 1.0, "grad_norm": value}
    message = rf"^grad_norm is {float(value)} at step 30; there is no earlier checkpoint"
    with pytest.raises(FloatingPointError, match=message):
        check_finite(30, scalars)
    with pytest.raises(FloatingPointError, match="no earlier checkpoint"):
        check_finite(30, scalars, tmp_path)
    save_checkpoint(tmp_path, {"w": jnp.ones(2)}, step=20)
    with pytest.raises(FloatingPointError, match=rf"last good checkpoint is {tmp_path}/20\."):
        check_finite(30, scalars, tmp_path)
