"""Records what transformers computes for the models of `peer_models.py` into peers.npz.

Run from the repository root with transformers and torch installed:
    python -m tests.lm.golden.record_peers
"""

import json
from pathlib import Path

import numpy as np

from tests.lm import peer_models


def main():
    import torch
    import transformers

    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    arrays = {"versions": np.array(json.dumps(versions))}
    for case in peer_models.CASES:
        model = peer_models.build(case)
        found = peer_models.outputs(model)
        arrays[f"{case}/config"] = np.array(json.dumps(peer_models.written_config(model)))
        shapes = {name: list(tensor.shape) for name, tensor in peer_models.tensors(model).items()}
        arrays[f"{case}/shapes"] = np.array(json.dumps(shapes))
        arrays[f"{case}/logits"] = found["logits"]
        arrays[f"{case}/hidden"] = found["hidden_states"][-1]
    np.savez_compressed(Path(__file__).with_name("peers.npz"), **arrays)


if __name__ == "__main__":
    main()
