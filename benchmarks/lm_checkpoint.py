"""One checkpoint folder read by this library and by transformers: do they agree?

    python benchmarks/lm_checkpoint.py --model=path/to/pythia-70m --text=some.txt

Prints the perplexity of the text, which must be equal to four digits, and a greedy continuation
of its beginning, which must be equal in every token; ends with 1 where they are not.
"""

import sys

import harness
import jax
import numpy as np
import torch
import transformers

from jaxlab import lm


def main() -> int:
    arguments = harness.parse_arguments(
        __doc__.splitlines()[0], model="", text="", length=512, rows=32, prompt=32, new=64
    )
    for name in ("model", "text"):
        if not getattr(arguments, name):
            sys.exit(f"--{name} is needed")
    transformers.utils.logging.disable_progress_bar()
    cfg, params = lm.load_hf(arguments.model, dtype=np.float32)
    tokenizer = lm.load_tokenizer(arguments.model)
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with open(arguments.text, encoding="utf-8") as file:
        text = file.read()
    ids = tokenizer.encode(text)
    peer_ids = transformers.AutoTokenizer.from_pretrained(arguments.model)(text)["input_ids"]
    length = min(arguments.length, cfg.max_seq_len)
    count = min(len(ids) // length, arguments.rows)
    if not count:
        sys.exit(f"the text has {len(ids)} tokens; one row takes {length} (--length)")
    rows = np.array(ids[: count * length], np.int32).reshape(count, length)

    ours = np.exp(lm.evaluate_loss(params, cfg, {"tokens": rows}, batch_size=1))
    theirs = np.exp(peer_loss(peer, rows))
    continuation = lm.generate(
        jax.random.key(0),
        params,
        cfg,
        rows[:1, : arguments.prompt],
        max_new_tokens=arguments.new,
        sampling=lm.SamplingConfig(temperature=0),
        eos_ids=(),
    ).tokens[0]
    peer_continuation = continue_greedily(peer, rows[:1, : arguments.prompt], arguments.new)
    equal = {
        "token ids": ids == peer_ids,
        "perplexity": f"{ours:.4g}" == f"{theirs:.4g}",
        "greedy continuation": np.array_equal(continuation, peer_continuation),
    }
    print(f"{arguments.model}: {lm.count_params(params):,} parameters, {count} rows of {length}")
    print(f"perplexity {ours:.6g}, transformers {theirs:.6g}")
    print(f"continuation {tokenizer.decode(continuation.tolist())!r}")
    for what, holds in equal.items():
        print(f"{what}: {'equal' if holds else 'DIFFERENT'}")
    return 0 if all(equal.values()) else 1


def peer_loss(model, rows: np.ndarray) -> float:
    """Mean nats per predicted token."""
    with torch.inference_mode():
        losses = [
            model(tokens, labels=tokens, use_cache=False).loss.item()
            for tokens in torch.from_numpy(rows.astype(np.int64)).split(1)
        ]
    return float(np.mean(losses))


def continue_greedily(model, prompt: np.ndarray, count: int) -> np.ndarray:
    tokens = torch.from_numpy(prompt.astype(np.int64))
    model.generation_config.eos_token_id = None  # else `min_new_tokens` would bar it
    with torch.inference_mode():
        out = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            min_new_tokens=count,
            max_new_tokens=count,
            do_sample=False,
            repetition_penalty=1.0,
        )
    return out[0, prompt.shape[1] :].numpy()


if __name__ == "__main__":
    sys.exit(main())
