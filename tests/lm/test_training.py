"""The training loop: exact resume, and the same numbers on any split of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import lm
from jaxlab.lm import conformance

TX = lm.make_optimizer(lm.OptimizerConfig(peak_lr=0.1, schedule="constant", weight_decay=0.0))


def quadratic(params, batch, key):
    """Rows pull w to their targets; the noise is drawn per row, as losses should draw it."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["row"])
    noise = jax.vmap(jax.random.normal)(keys) * 0.1
    error = params["w"] - batch["target"] + noise
    return jnp.sum(batch["weight"] * error**2), jnp.sum(batch["weight"])


def batch_at(step):
    rng = np.random.default_rng(step)
    return {
        "target": rng.normal(size=8).astype(np.float32),
        "weight": (rng.random(8) < 0.7).astype(np.float32),
        "row": np.arange(8),
    }


def run(steps, **settings):
    params = {"w": jnp.float32(3.0)}
    key = jax.random.key(0)
    return lm.train(quadratic, TX, params, batch_at, steps=steps, key=key, **settings)


def test_a_resumed_run_ends_at_the_same_bits(tmp_path):
    whole = run(9)
    lm.save_state(tmp_path, run(4))
    assert lm.latest_step(tmp_path) == 4
    like = lm.init_train_state({"w": jnp.float32(0)}, TX)
    resumed = run(9, state=lm.restore_state(tmp_path, like))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_any_split_gives_the_same_numbers():
    plain = run(6)
    for split in (
        {"grad_accum": 4},
        {"parallel": "pmap", "devices": jax.devices()[:2]},
        {"parallel": "pmap", "grad_accum": 2},
    ):
        state = run(6, **split)
        np.testing.assert_allclose(state.params["w"], plain.params["w"], rtol=1e-5)


def test_parameters_given_are_not_donated():
    params = {"w": jnp.float32(3.0)}
    lm.train(quadratic, TX, params, batch_at, steps=1, key=jax.random.key(0))
    assert params["w"] == 3.0


def test_evaluations_see_weighted_means():
    seen = []
    run(5, on_eval=lambda state, means: seen.append((int(state.step), means)), eval_every=2)
    assert [step for step, _ in seen] == [2, 4, 5]
    singly = []
    run(5, on_eval=lambda state, means: singly.append(means), eval_every=1)
    for (step, means), first in zip(seen, (0, 2, 4), strict=True):
        parts = singly[first:step]
        weights = [part["weight"] for part in parts]
        losses = [part["loss"] for part in parts]
        np.testing.assert_allclose(means["loss"], np.average(losses, weights=weights), rtol=1e-5)
        np.testing.assert_allclose(means["weight"], np.mean(weights))


def test_means_of_small_weights():
    def lighter(step):
        batch = batch_at(step)
        return batch | {"weight": batch["weight"] / 100}

    plain, light = [], []
    run(2, on_eval=lambda _, means: plain.append(means), eval_every=2)
    lm.train(
        quadratic,
        TX,
        {"w": jnp.float32(3.0)},
        lighter,
        steps=2,
        key=jax.random.key(0),
        on_eval=lambda _, means: light.append(means),
        eval_every=2,
    )
    assert light[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-5)


def test_a_finished_run_stays_as_it_is():
    state = run(3)
    again = run(3, state=state)
    assert again is state


def test_restoring_from_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        lm.restore_state(tmp_path, lm.init_train_state({"w": jnp.float32(0)}, TX))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"parallel": "threads"}, "parallel"),
        ({"grad_accum": 3}, "multiple"),
        ({"parallel": "pmap", "devices": jax.devices()[:3]}, "multiple"),
    ],
)
def test_bad_splits(settings, match):
    with pytest.raises(ValueError, match=match):
        run(1, **settings)


# The language model itself, as the script measures it.


def test_cache_and_padding():
    numbers = conformance.measure_cache(jax.random.key(0))
    assert numbers["logit_error"] < 1e-4
    assert numbers["greedy_agreement"] == 1


def test_batch_invariance():
    assert conformance.measure_batch_invariance(jax.random.key(0))["agreement"] == 1


def test_exact_resume_of_a_model(tmp_path):
    numbers = conformance.measure_resume(jax.random.key(0), tmp_path)
    assert numbers["differing"] == 0
    assert numbers["entries"] > 10_000


def test_splits_of_a_model_with_unequal_masks():
    for error in conformance.measure_splits(jax.random.key(0), 4).values():
        assert error < 1e-4


def test_a_model_over_four_devices():
    numbers = conformance.measure_sharding(jax.random.key(0))
    assert numbers["logit_error"] < 1e-4
    assert numbers["largest_share"] == 0.25
