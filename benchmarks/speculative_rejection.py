"""Best-of-N against transformers on torch, and speculative rejection against Best-of-N, on CPU.

    python benchmarks/speculative_rejection.py --threads=1 --workdir=out/benchmarks/align

One model of synthetic documents, trained here for a few steps and exported, the same threads on
both sides, the same gold reward. Both methods of the second comparison run in our engine, with one
key, compiled beforehand; Best-of-N's cache grows in steps as well.
"""

import tempfile

import harness
import jax
import numpy as np
import torch
import transformers

from jaxlab import align, lm
from jaxlab.align.studies.models import train_language_model
from jaxlab.runs import Claim, holds

ROWS, NEW_TOKENS = 64, 256
INITIAL_ROWS, FIRST_SEGMENT, RESPONSE = 256, 3, 510
PROMPT = align.document_prompt(0)
PEER = "transformers"


def main():
    arguments = harness.parse_arguments(__doc__.splitlines()[0], threads=1, steps=100)
    harness.keep_to_processors(arguments.threads)
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    cfg = align.document_model()
    documents = align.sample_documents(
        np.random.default_rng(0), 16 * arguments.steps, 130, sigma=1.0
    )
    params = train_language_model(jax.random.key(0), cfg, documents, 16, 3e-3)["params"]
    note = f"{arguments.threads} thread(s) each"
    plain = against_transformers(cfg, params, arguments.rounds, note)
    search, claim = against_best_of_n(cfg, params, min(arguments.rounds, 3), note)
    claims = [
        Claim(
            "C2-transformers",
            "Best-of-N is at least twice as fast as through transformers' generate",
            "",
            f"{plain.speedup:.1f}x ({plain.low:.1f} to {plain.high:.1f})",
            holds(plain.speedup >= 2),
            detail=f"wall time, {ROWS} rows of {NEW_TOKENS} tokens, 76,608 parameters, {note}. "
            "Criterion: >= 2x.",
        ),
        claim,
    ]
    title = f"align against transformers {transformers.__version__}, torch {torch.__version__}"
    harness.publish(title, [plain, search], claims, arguments.workdir)


def against_transformers(cfg, params, rounds: int, note: str) -> harness.Row:
    """Best-of-64, sampling and scoring included."""
    with tempfile.TemporaryDirectory() as folder:
        lm.save_hf(folder, cfg, params)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    policy = align.lm_policy(params, cfg)
    tokens = torch.from_numpy(PROMPT[None].astype(np.int64))

    def ours():
        result = align.best_of_n(
            jax.random.key(0), policy, align.gold_reward, PROMPT, n=ROWS, max_new_tokens=NEW_TOKENS
        )
        return result.tokens

    def peer():
        with torch.inference_mode():
            drawn = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=True,
                top_k=0,
                num_return_sequences=ROWS,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                pad_token_id=0,
            )
        responses = drawn[:, len(PROMPT) :].numpy()
        scores = align.gold_reward(PROMPT, responses, np.full(ROWS, NEW_TOKENS))
        return responses[np.argmax(scores)]

    name = f"Best-of-{ROWS}, {NEW_TOKENS} tokens"
    return harness.side_by_side(name, ours, peer, PEER, rounds=rounds, note=note)


def against_best_of_n(cfg, params, rounds: int, note: str) -> tuple[harness.Row, Claim]:
    """Speculative rejection beside Best-of-n_init with the same key."""
    policy, key = align.lm_policy(params, cfg), jax.random.key(1)
    settings = align.SpecRejConfig(
        max_new_tokens=RESPONSE,
        capacity_tokens=INITIAL_ROWS * (len(PROMPT) + FIRST_SEGMENT),
        n_init=INITIAL_ROWS,
    )
    results = {}

    def ours():
        results["ours"] = align.speculative_rejection(
            key, policy, align.gold_reward, PROMPT, settings
        )
        return results["ours"].tokens

    def peer():
        results["peer"] = align.best_of_n(
            key, policy, align.gold_reward, PROMPT, n=INITIAL_ROWS, max_new_tokens=RESPONSE
        )
        return results["peer"].tokens

    name = f"speculative rejection, {INITIAL_ROWS} rows, {RESPONSE} tokens"
    row = harness.side_by_side(
        name, ours, peer, f"our Best-of-{INITIAL_ROWS}", rounds=rounds, note=note
    )
    ours, peer = results["ours"], results["peer"]
    tokens = peer.tokens_computed / ours.tokens_computed
    claim = Claim(
        "C4-wall",
        "Speculative rejection takes at least 16 times fewer tokens than Best-of-N, and less time, "
        "for the same reward",
        "16x to 32x",
        f"{tokens:.1f}x tokens, {row.speedup:.0f}x wall time ({row.low:.0f} to {row.high:.0f})",
        holds(ours.score >= peer.score and tokens >= 16 and row.low > 16),
        detail=f"rewards {ours.score:.3f} and {peer.score:.3f}; {note}; alpha = 1/2. Criterion: no "
        "lower reward, 16 times fewer tokens and 16 times less time.",
    )
    return row._replace(note=f"{tokens:.1f}x fewer tokens, {note}"), claim


if __name__ == "__main__":
    main()
