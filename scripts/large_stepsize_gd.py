"""Measures the claims on gradient descent with large, risk-adaptive stepsizes.

python scripts/large_stepsize_gd.py --preset=smoke
python scripts/large_stepsize_gd.py --data=mine.npz --positive_class=3 --eta=1,100,1e4
"""

from jaxlab.optim import experiment
from jaxlab.runs import launch

if __name__ == "__main__":
    launch("large_stepsize_gd", experiment)
