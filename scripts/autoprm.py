"""AutoPRM: question decomposition, sequential reinforcement learning, context-guided decoding.

    python scripts/autoprm.py --preset=small --workdir=out/autoprm

Trains a small network from scratch to decompose and answer generated problems, improves it by
expert iteration under a learned step verifier, and measures the claims of Chen et al. 2024
(arXiv 2402.11452).

    python scripts/autoprm.py --preset=paper --model=FOLDER --data=train_socratic.jsonl

runs the same stages on problems in words, from any Hugging Face folder.
"""

from jaxlab.prm import experiment
from jaxlab.runs import launch

if __name__ == "__main__":
    launch("autoprm", experiment)
