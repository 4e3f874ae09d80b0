"""Records greedy continuations of transformers for tiny models of several families.

    python -m tests.lm.record_generation        # writes golden/generation.npz

Weights are a function of their names (peer_models.weight), so names and shapes are enough to
compare where torch is absent.
"""

import json
from pathlib import Path

import numpy as np

from tests.lm import peer_models

CASES = ("gpt2", "gpt_neox", "llama", "mistral_window", "qwen3", "phi")
GOLDEN = Path(__file__).parent / "golden" / "generation.npz"
NEW_TOKENS = 16


def left_padded_batch():
    """(tokens, mask) [3, 12], int64: rows of 12, 7 and 3 tokens."""
    tokens = np.random.default_rng(1).integers(3, 97, (3, 12))
    mask = (np.arange(12) >= 12 - np.array([[12], [7], [3]])).astype(np.int64)
    return tokens * mask, mask


def greedy(model) -> np.ndarray:
    """The model's own greedy continuation of the batch, [3, NEW_TOKENS], without stop tokens."""
    import torch

    tokens, mask = (torch.from_numpy(array) for array in left_padded_batch())
    model.generation_config.eos_token_id = None
    out = model.generate(
        tokens, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0
    )
    return out[:, tokens.shape[1] :].numpy()


def write_folder(path: Path, config: str, shapes: dict[str, list[int]]):
    """A checkpoint folder with the weights that `peer_models.weight` gives, made without torch."""
    from safetensors.numpy import save_file

    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(config)
    tensors = {name: peer_models.weight(name, tuple(shape)) for name, shape in shapes.items()}
    save_file(tensors, path / "model.safetensors")


def main():
    import transformers

    record = {"version": transformers.__version__}
    for case in CASES:
        model = peer_models.build(case)
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            shapes.pop("lm_head.weight", None)
        record[f"{case}/tokens"] = greedy(model)
        record[f"{case}/config"] = model.config.to_json_string(use_diff=False)
        record[f"{case}/shapes"] = json.dumps(shapes)
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **record)


if __name__ == "__main__":
    main()
