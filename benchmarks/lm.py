"""The language model against transformers on torch: the same weights, threads and work, on CPU.

    python benchmarks/lm.py --threads=1 --workdir=out/benchmarks/lm

Times a training step, prefill, and greedy decoding at four batch sizes, and writes the claims
that need the peer: L1 and L3 (eight families against transformers), L7 and L8 (speed).
"""

import tempfile
from pathlib import Path

import harness
import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from jaxlab import lm
from jaxlab.runs import Claim, holds

# 8.39M parameters: V 4096, D 256, L 8, H 8, K 4, F 768.
SIZES = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 768,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
PROMPT, NEW_TOKENS = 32, 64
ROWS, LENGTH = 4, 256
GREEDY = lm.SamplingConfig(temperature=0)
TINY = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64}
ALL_HEADS = {"num_key_value_heads": 4}
FAMILIES = {
    "gpt2": GPT2 | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    "gpt_neox": TINY | ALL_HEADS,
    "llama": TINY,
    "mistral": TINY | {"sliding_window": 5},
    "qwen2": TINY,
    "qwen3": TINY | {"head_dim": 16},
    "phi": TINY | ALL_HEADS,
    "phi3": TINY | {"sliding_window": 5},
}


def main():
    arguments = harness.parse_arguments(__doc__.splitlines()[0], threads=1)
    harness.keep_to_processors(arguments.threads)
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    rows, equal = time_speed(arguments.rounds, f"{arguments.threads} thread(s) each")
    claims = [*compare_families(), *judge_speed(rows, equal)]
    title = f"lm against transformers {transformers.__version__}, torch {torch.__version__}"
    harness.publish(title, list(rows.values()), claims, arguments.workdir)


def time_speed(rounds: int, note: str) -> tuple[dict[str, harness.Row], float]:
    """The timed rows by name, and the share of greedy tokens that both sides agree on."""
    model = build("llama", SIZES)
    cfg, params = exchange(model)
    peer_name = "transformers"
    rng = np.random.default_rng(0)
    rows, equal = {}, []
    for batch_size in (1, 8, 16, 64):
        tokens = rng.integers(3, SIZES["vocab_size"], (batch_size, PROMPT))

        def ours(tokens=tokens):
            return lm.generate(
                jax.random.key(0), params, cfg, tokens, max_new_tokens=NEW_TOKENS, sampling=GREEDY
            ).tokens

        def peer(tokens=tokens):
            with torch.inference_mode():
                prompt = torch.from_numpy(tokens)
                out = model.generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    max_new_tokens=NEW_TOKENS,
                    do_sample=False,
                )
            return out[:, PROMPT:].numpy()

        equal.append(np.mean(np.asarray(ours()) == peer()))
        name = f"greedy, B {batch_size}, {PROMPT} + {NEW_TOKENS} tokens"
        rows[f"B {batch_size}"] = harness.side_by_side(
            name, ours, peer, peer_name, rounds=rounds if batch_size < 64 else 3, note=note
        )

    tokens = rng.integers(3, SIZES["vocab_size"], (ROWS, LENGTH))
    cache = lm.init_cache(cfg, ROWS, LENGTH)

    def prefill():
        return lm.extend(params, cfg, tokens, cache, last_only=True)

    def peer_prefill():
        with torch.inference_mode():
            return model(torch.from_numpy(tokens), use_cache=True, logits_to_keep=1).logits.numpy()

    rows["prefill"] = harness.side_by_side(
        f"prefill, B {ROWS} x T {LENGTH}",
        prefill,
        peer_prefill,
        peer_name,
        rounds=rounds,
        note=note,
    )
    rows["train"] = time_training(model, cfg, params, tokens, rounds, note)
    return rows, float(np.mean(equal))


def time_training(model, cfg, params, tokens, rounds: int, note: str) -> harness.Row:
    """One AdamW step with clipping on the same batch, forward to updated weights."""
    tx = lm.make_optimizer(lm.OptimizerConfig(peak_lr=1e-4, schedule="constant"))
    step = lm.make_train_step(lambda p, batch, key: lm.next_token_loss(p, cfg, batch), tx)
    state = lm.init_train_state(jax.tree.map(jnp.copy, params), tx)

    def ours():
        nonlocal state
        state, metrics = step(state, {"tokens": tokens}, jax.random.key(0))
        return metrics["loss"], state.params

    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    labels = torch.from_numpy(tokens)

    def peer():
        optimizer.zero_grad(set_to_none=True)
        loss = model(labels, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach().numpy()

    row = harness.side_by_side(
        f"training step, B {ROWS} x T {LENGTH}", ours, peer, "transformers", rounds=rounds
    )
    flops = 3 * tokens.size * lm.flops_per_token(cfg, (LENGTH + 1) / 2)
    rates = f"{flops / row.ours_s / 1e9:.0f} and {flops / row.peer_s / 1e9:.0f} GFLOP/s, "
    speed = f"{tokens.size / row.ours_s:.0f} and {tokens.size / row.peer_s:.0f} tokens/s, "
    return row._replace(note=speed + rates + note)


def compare_families() -> list[Claim]:
    """L1 and L3: logits of eight families, and their folders there and back."""
    errors, reload_errors, exact = {}, {}, True
    tokens = np.random.default_rng(0).integers(3, 97, (3, 20))
    mask = np.ones((3, 20), np.int64)
    mask[1, :6] = mask[2, 15:] = 0
    for family, sizes in FAMILIES.items():
        model = build(family, sizes)
        expected = logits_of(model, tokens, mask)
        cfg, params = exchange(model)
        ours = lm.forward(params, cfg, tokens, attention_mask=mask).logits
        errors[family] = float(np.abs(ours - expected)[mask == 1].max())
        with tempfile.TemporaryDirectory() as folder:
            lm.save_hf(folder, cfg, params, max_shard_bytes=40_000)
            assert len(list(Path(folder).glob("*.safetensors"))) > 1
            again = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager"
            ).eval()
            _, reread = lm.load_hf(folder)
        reloaded = logits_of(again, tokens, mask)
        reload_errors[family] = float(np.abs(reloaded - expected)[mask == 1].max())
        exact &= all(
            jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), params, reread))
        )
    worst, worst_reload = max(errors.values()), max(reload_errors.values())
    return [
        Claim(
            "L1",
            "One implementation covers eight families",
            "",
            f"{worst:.1e}",
            holds(worst < 1e-4),
            detail="largest error: "
            + ", ".join(f"{k} {v:.0e}" for k, v in errors.items())
            + ". Criterion: logits within 1e-4.",
        ),
        Claim(
            "L3",
            "Checkpoints round-trip through transformers",
            "",
            f"{'bitwise' if exact else 'not bitwise'}; {worst_reload:.1e}",
            holds(exact and worst_reload < 1e-6),
            detail="eight families, saved in several shards. Criterion: bitwise, logits < 1e-6.",
        ),
    ]


def judge_speed(rows: dict[str, harness.Row], equal: float) -> list[Claim]:
    one, sixteen, train = rows["B 1"], rows["B 16"], rows["train"]

    def ratio(row):
        return f"{row.speedup:.2f}x ({row.low:.2f} to {row.high:.2f})"

    return [
        Claim(
            "L7",
            "Decoding is faster than transformers on CPU",
            "",
            f"{ratio(one)} at B 1, {ratio(sixteen)} at B 16",
            holds(one.speedup >= 2 and sixteen.speedup >= 1),
            detail=f"{one.note}; {equal:.1%} of greedy tokens equal; B 64: {ratio(rows['B 64'])}. "
            "Criterion: >= 2x at B 1, >= 1x at B 16.",
        ),
        Claim(
            "L8",
            "Training is as fast as torch on CPU",
            "",
            ratio(train),
            holds(train.speedup >= 0.9),
            detail=f"{train.note}. Criterion: >= 0.9x.",
        ),
    ]


def build(family: str, sizes: dict):
    """A transformers model with random weights, norms not 1 and biases not 0; float32."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **sizes)
    attention = "sdpa" if sizes is SIZES else "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval().float()


def exchange(model) -> tuple[lm.LMConfig, dict]:
    """The model as this library reads it from the folder that transformers writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return lm.load_hf(folder)


def logits_of(model, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    positions = torch.from_numpy(np.maximum(mask.cumsum(1) - 1, 0))
    with torch.inference_mode():
        return model(
            torch.from_numpy(tokens),
            attention_mask=torch.from_numpy(mask),
            position_ids=positions,
        ).logits.numpy()


if __name__ == "__main__":
    main()
