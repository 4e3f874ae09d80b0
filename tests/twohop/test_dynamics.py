import jax
import numpy as np
import pytest

from jaxlab import twohop


def reference_flow(theta, lr, steps, n, n_out):
    """The closed-form gradient of the specification, in float64."""
    losses, c = [], 1 / (1 + n)

    def share(x, k):
        return 1 / (1 + k * np.exp(-x))

    for _ in range(steps):
        a, b, g = theta
        A = share(a, n)
        B = share(b * A, n)
        z = g * (B + c) * A
        losses.append(np.log1p(n_out * np.exp(-z)))
        dz = -(1 - share(z, n_out))
        slope = dz * np.array(
            [
                g * A * (1 - A) * ((B + c) + b * A * B * (1 - B)),
                g * A**2 * B * (1 - B),
                (B + c) * A,
            ]
        )
        theta = theta - lr * slope
    return np.array(losses), theta


def test_flow_against_the_closed_form_gradient():
    with jax.enable_x64(True):
        start = twohop.ThreeParam(-0.404, -0.6635, 1.4107)
        path = twohop.three_param_flow(start, 0.1, 2000)
        losses, _ = reference_flow(np.array(start), 0.1, 2000, 10, 30)
        np.testing.assert_allclose(path.loss, losses, rtol=1e-9)
        shown = [3.4187, 3.3833, 0.1504, 0.01712, 0.00923]
        np.testing.assert_allclose(path.loss[::400], shown, rtol=2e-3)
        np.testing.assert_allclose(path.prob, np.exp(-path.loss), rtol=1e-9)
        assert path.params.alpha[0] == -0.404


def test_plateau_grows_with_competitors_and_the_jump_stays_sharp():
    with jax.enable_x64(True):
        zero = twohop.ThreeParam(0.0, 0.0, 1.0)
        flow = jax.vmap(lambda n: twohop.three_param_flow(zero, 0.1, 7000, n).prob)
        prob = np.asarray(flow(np.array([2.0, 5, 10, 20, 40])))
        begin, end = (0.1 * (prob > level).argmax(1) for level in (0.1, 0.9))
        np.testing.assert_allclose(begin, [5.1, 19.7, 57.6, 185, 647], rtol=0.02)
        assert ((end - begin > 8) & (end - begin < 10.5)).all()


def test_stable_at_any_scale_and_refuses():
    for p in (twohop.ThreeParam(1e3, 1e3, 1e3), twohop.ThreeParam(-1e3, -1e3, -1e3)):
        value, grad = jax.value_and_grad(twohop.three_param_loss)(p)
        assert np.isfinite(value)
        assert np.isfinite(np.array(grad)).all()
    np.testing.assert_allclose(
        twohop.three_param_prob(twohop.ThreeParam(0.0, 0.0, 0.0)), 1 / 31, rtol=1e-6
    )
    with pytest.raises(ValueError, match="lr must be positive, got 0"):
        twohop.three_param_flow(twohop.ThreeParam(0, 0, 1), lr=0)
    with pytest.raises(ValueError, match="n_steps must be >= 1"):
        twohop.three_param_flow(twohop.ThreeParam(0, 0, 1), n_steps=0)


def test_phase_report():
    steps = np.arange(0, 1000, 50)
    p = np.where(steps < 600, 0.2, 0.95)
    p[12] = 0.6  # step 600
    report = twohop.phase_transition(steps, p)
    assert report == (True, 550.0, 650.0, pytest.approx(0.2), 0.95, 5.5)
    never = twohop.phase_transition(steps, np.linspace(0.1, 0.5, 20))
    assert not never.found
    assert np.isnan([never.onset, never.end, never.sharpness]).all()
    assert never.final == 0.5
    np.testing.assert_allclose(never.plateau, np.linspace(0.1, 0.5, 20)[10:].mean())
    at_once = twohop.phase_transition(steps, np.full(20, 0.95))
    assert not at_once.found
    assert np.isnan(at_once.onset)
    assert twohop.first_crossing(steps, p, 0.5) == 600
    assert np.isnan(twohop.first_crossing(steps, p, 0.99))
    assert twohop.first_crossing([100], [0.5], 0.4) == 100


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        ([0, 1], [0.1], "one length >= 2"),
        ([0], [1.0], "one length >= 2"),
        ([1, 1], [0, 0], "increase"),
    ],
)
def test_curves_are_checked(steps, values, message):
    with pytest.raises(ValueError, match=message):
        twohop.phase_transition(steps, values)
