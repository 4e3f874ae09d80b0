"""AutoPRM: question decomposition, sequential reinforcement learning, context-guided decoding.

    python scripts/autoprm.py --preset=small --workdir=out/autoprm

Trains a small network from scratch to decompose and answer generated problems, improves it by
expert iteration under a learned step verifier, and measures the claims of Chen et al. 2024
(arXiv 2402.11452).

    python scripts/autoprm.py --preset=paper --model=FOLDER --data=train_socratic.jsonl

runs the same stages on problems in words, from any Hugging Face folder.
"""

import functools
import types

from jaxlab.align import Policy, SpecRejConfig, speculative_rejection
from jaxlab.prm import experiment
from jaxlab.runs import launch


def search(key, policy, reward, prompt, *, rows, capacity_tokens, max_new_tokens, end_id):
    """Speculative rejection; rows of one problem share its prompt."""
    cfg = SpecRejConfig(
        max_new_tokens=max_new_tokens,
        capacity_tokens=capacity_tokens,
        n_init=rows,
        prefix_shared=True,
        eos_ids=(end_id,),
    )
    return speculative_rejection(key, Policy(*policy), reward, prompt, cfg)


if __name__ == "__main__":
    run = functools.partial(experiment.run, search=search)
    launch("autoprm", types.SimpleNamespace(PRESETS=experiment.PRESETS, run=run))
