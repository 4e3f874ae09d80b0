"""Offline decisions in data-starved bandits, TRUST against LCB: claims C1 to C11.

python scripts/trust_bandits.py --preset=smoke
python scripts/trust_bandits.py --experiment=own --log=my_log.csv --sigma=0.5
python scripts/trust_bandits.py --experiment=own --returns=my_returns.npz
python scripts/trust_bandits.py --experiment=obd --obd=obd/random/all/all.csv
"""

from jaxlab.bandits import experiment
from jaxlab.runs import launch

if __name__ == "__main__":
    launch("trust_bandits", experiment)
