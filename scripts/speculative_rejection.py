"""Best-of-N at a fraction of its cost by speculative rejection: claims C1 to C10.

python scripts/speculative_rejection.py --preset=smoke
"""

from jaxlab.align import experiment
from jaxlab.runs import launch

if __name__ == "__main__":
    launch("speculative_rejection", experiment)
