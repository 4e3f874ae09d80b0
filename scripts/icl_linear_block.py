"""In-context learning of a linear transformer block: claims IL1 to IL8.

python scripts/icl_linear_block.py --preset=smoke
python scripts/icl_linear_block.py --experiment=gap --mean=5
python scripts/icl_linear_block.py --experiment=tasks --data=my_tasks.npz
"""

from jaxlab.icl import experiment
from jaxlab.runs import launch

if __name__ == "__main__":
    launch("icl_linear_block", experiment)
