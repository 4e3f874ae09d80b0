"""One GRPO step against TRL: the same weights, prompts and number of tokens, on CPU.

    python benchmarks/autoprm.py --threads=1 --workdir=out/benchmarks/autoprm

A step samples 8 answers of 32 tokens to each of 8 prompts of 32 tokens, rewards them and updates
a Qwen2 of 0.87M parameters once. TRL's trainer calls ours after each of its own steps, so both run
in turns. `pip install trl` brings the peer.
"""

import os
import tempfile
import time

import datasets
import harness
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tokenizers
import torch
import transformers
import trl

from jaxlab import lm, prm
from jaxlab.lm.cache import split_cache, split_layers
from jaxlab.runs import Claim, holds

PROMPTS, GROUP, PROMPT, NEW_TOKENS = 8, 8, 32, 32
RATE = 1e-5
SIZES = {
    "vocab_size": 512,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 384,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def main() -> None:
    arguments = harness.parse_arguments(__doc__.splitlines()[0], threads=1)
    # Before the first use of a device: XLA makes as many threads as it may use processors.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        cfg, params = lm.load_hf(folder)
    words = np.random.default_rng(0).integers(3, SIZES["vocab_size"], (PROMPTS, PROMPT))
    ours = our_step(cfg, jax.tree.map(jnp.asarray, params), words)
    for _ in range(2):
        harness.measure(ours)  # compiles
    with tempfile.TemporaryDirectory() as folder:
        times = turns(model, words, ours, arguments.rounds, folder)
    note = f"{arguments.threads} thread(s) each, {lm.count_params(params)} parameters"
    row = compare(times, note)
    claim = Claim(
        "P-speed",
        "A GRPO step is at least twice as fast as TRL's",
        ">= 2x",
        f"{row.speedup:.1f}x ({row.low:.1f} to {row.high:.1f})",
        holds(row.speedup >= 2),
        detail=f"wall time; processor time {row.peer_cpu_s / row.ours_cpu_s:.1f}x; {row.note}",
    )
    title = f"prm against TRL {trl.__version__}, torch {torch.__version__}"
    harness.publish(title, [row], [claim], arguments.workdir)
    print(f"{claim.id} {claim.verdict}: {claim.measured} (asked: {claim.paper})")


def our_step(cfg: lm.LMConfig, params: dict, prompts: np.ndarray):
    """A call that samples, rewards and updates once; one compiled program."""
    tx = optax.adamw(RATE, weight_decay=0.0)
    rows = PROMPTS * GROUP
    mask = jnp.broadcast_to(jnp.arange(PROMPT + NEW_TOKENS) >= PROMPT, (rows, PROMPT + NEW_TOKENS))
    tokens = jnp.asarray(prompts, jnp.int32)

    @jax.jit
    def step(params, opt_state, key):
        logits, cache = lm.extend(
            params, cfg, tokens, lm.init_cache(cfg, PROMPTS, PROMPT + NEW_TOKENS), last_only=True
        )
        tiles = jnp.repeat(jnp.arange(PROMPTS), GROUP)
        layers, cache = split_layers(params), split_cache(lm.take_rows(cache, tiles))
        drawn, _, _ = lm.decode(
            jax.random.split(key, rows),
            lambda token, cache: lm.extend(layers, cfg, token[:, None], cache, last_only=True),
            logits[tiles],
            cache,
            max_new_tokens=NEW_TOKENS,
            sampling=lm.SamplingConfig(),
        )
        rewards = jnp.mean(drawn.tokens % 2 == 0, axis=1).reshape(PROMPTS, GROUP)
        advantages = prm.group_advantages(rewards).ravel()
        whole = jnp.concatenate([tokens[tiles], drawn.tokens], axis=1)

        def loss(params):
            log_probs = lm.token_log_probs(lm.forward(params, cfg, whole).logits, whole)
            old = jax.lax.stop_gradient(log_probs)
            return prm.ppo_loss(log_probs, old, advantages, mask[:, 1:]).loss

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    state = [params, tx.init(params), jax.random.key(0)]

    def call():
        """One step; parameters and key are kept from call to call."""
        state[2], key = jax.random.split(state[2])
        state[:2] = step(*state[:2], key)
        return state[0]

    return call


class Turns(transformers.TrainerCallback):
    """Times each step of the trainer, and ours after it."""

    def __init__(self, ours):
        self.ours, self.times = ours, {"ours": [], "peer": []}

    def on_step_begin(self, *args, **kwargs):
        self.begun = time.perf_counter(), time.process_time()

    def on_step_end(self, *args, **kwargs):
        wall, cpu = self.begun
        self.times["peer"].append((time.perf_counter() - wall, time.process_time() - cpu))
        self.times["ours"].append(harness.measure(self.ours))


def turns(model, prompts, ours, rounds: int, folder: str) -> dict[str, list]:
    """(wall, processor) seconds of both sides, the first step of each left out."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2}
    vocabulary |= {f"w{i}": i for i in range(3, SIZES["vocab_size"])}
    splitter = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    splitter.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=splitter, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    texts = [" ".join(f"w{i}" for i in row) for row in prompts]
    watch = Turns(ours)
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=lambda completion_ids, **_: [
            float(np.mean(np.array(ids) % 2 == 0)) for ids in completion_ids
        ],
        args=trl.GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=NEW_TOKENS,
            max_steps=rounds + 1,
            learning_rate=RATE,
            loss_type="dapo",
            beta=0.0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_dict({"prompt": texts}),
        processing_class=tokenizer,
        callbacks=[watch],
    )
    trainer.train()
    return {who: times[1:] for who, times in watch.times.items()}


def compare(times: dict[str, list], note: str) -> harness.Row:
    """The table's row, from pairs of turns."""
    wall_ours, cpu_ours = np.transpose(times["ours"])
    wall_peer, cpu_peer = np.transpose(times["peer"])
    ratios = wall_peer / wall_ours
    return harness.Row(
        f"GRPO step, {PROMPTS} x {GROUP} answers, {PROMPT} + {NEW_TOKENS} tokens",
        "TRL",
        *(float(np.median(x)) for x in (wall_ours, wall_peer, cpu_ours, cpu_peer, ratios)),
        float(ratios.min()),
        float(ratios.max()),
        note,
    )


if __name__ == "__main__":
    main()
