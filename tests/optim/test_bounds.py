import numpy as np

from jaxlab import optim


def test_bound():
    assert optim.log_risk_bound(100.0, 0.5, 12) == -100.0
    assert optim.log_risk_bound(100.0, 0.5, 48, slope=0.5, kappa=0.3) == 0.3 - 100.0
    np.testing.assert_allclose(optim.log_risk_bound(2.0, 0.5, np.array([0, 4, 8])), [1, 0, -1])
