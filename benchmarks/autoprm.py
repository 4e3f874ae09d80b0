"""A GRPO step against TRL, and training of a process reward model against a torch loop, on CPU.

    python benchmarks/autoprm.py --threads=1 --workdir=out/benchmarks/autoprm

A step samples 8 answers of 32 tokens to each of 8 prompts of 32 tokens, rewards them and updates
a Qwen2 of 0.87M parameters once. TRL's trainer calls ours after each of its own steps, so both run
in turns. `pip install trl` brings the peer. TRL no longer trains process reward models: the second
peer is a plain loop in torch, with the same weights, texts and labels.
"""

import copy
import functools
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
TEXTS, LENGTH, STEP_END, STEP_EVERY = 32, 128, 3, 16
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
    harness.keep_to_processors(arguments.threads)
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        cfg, params = lm.load_hf(folder)
    words = np.random.default_rng(0).integers(3, SIZES["vocab_size"], (PROMPTS, PROMPT))
    reward_row = process_reward_row(model, cfg, params, arguments)
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
        "",
        f"{row.speedup:.1f}x ({row.low:.1f} to {row.high:.1f})",
        holds(row.speedup >= 2),
        detail=f"wall time; processor time {row.peer_cpu_s / row.ours_cpu_s:.1f}x; {row.note}. "
        "Criterion: >= 2x.",
    )
    title = f"prm against TRL {trl.__version__}, torch {torch.__version__}"
    harness.publish(title, [row, reward_row], [claim], arguments.workdir)


def our_step(cfg: lm.LMConfig, params: dict, prompts: np.ndarray):
    """A call that samples, rewards and updates once; one compiled program."""
    # TRL clips gradients to this norm unless told otherwise.
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE, weight_decay=0.0))
    rows = PROMPTS * GROUP
    mask = jnp.ones((rows, NEW_TOKENS), bool)
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
            answered = slice(PROMPT - 1, None)  # the last token of the prompt gives the first law
            hidden = lm.forward(params, cfg, whole).hidden[:, answered]
            logits = lm.head_logits(params, cfg, hidden)
            log_probs = lm.token_log_probs(logits, whole[:, answered])
            old = jax.lax.stop_gradient(log_probs)
            return prm.ppo_loss(log_probs, old, advantages, mask).loss

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    state = [params, tx.init(params), jax.random.key(0)]

    def call():
        """One step; parameters and key are kept from call to call."""
        state[2], key = jax.random.split(state[2])
        state[:2] = step(*state[:2], key)
        return state[0]

    return call


def process_reward_row(model, cfg: lm.LMConfig, params: dict, arguments) -> harness.Row:
    """Training steps of a process reward model: cross-entropy at the ends of steps, AdamW."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(4, SIZES["vocab_size"], (TEXTS, LENGTH))
    tokens[:, STEP_EVERY - 1 :: STEP_EVERY] = STEP_END
    labels = rng.integers(0, 2, (TEXTS, LENGTH // STEP_EVERY)).astype(np.float32)
    head = rng.normal(size=cfg.d_model).astype(np.float32)
    ours = our_reward_step(cfg, jax.tree.map(jnp.asarray, params), head, tokens, labels)
    peer = torch_reward_step(copy.deepcopy(model), head, tokens, labels)
    apart = abs(float(ours()) - peer())
    if apart > 1e-4:
        raise AssertionError(f"the first losses differ by {apart}")
    return harness.side_by_side(
        f"process reward step, {TEXTS} texts of {LENGTH} tokens, {labels.size} steps",
        ours,
        peer,
        f"torch {torch.__version__}",
        rounds=arguments.rounds,
        note=f"{arguments.threads} thread(s) each; first losses agree to {apart:.0e}",
    )


def our_reward_step(cfg: lm.LMConfig, params: dict, head, tokens: np.ndarray, labels: np.ndarray):
    """A call that trains once and returns the loss."""
    tx = optax.adamw(RATE, weight_decay=0.0)
    tokens, labels = jnp.asarray(tokens, jnp.int32), jnp.asarray(labels)

    def loss(trained):
        params, head = trained
        hidden = lm.forward(params, cfg, tokens).hidden
        ends = prm.step_ends_from_tokens(tokens, STEP_END, labels.shape[1])
        return prm.prm_loss(prm.gather_steps(hidden @ head, ends), labels, ends >= 0)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(trained, opt_state):
        value, slopes = jax.value_and_grad(loss)(trained)
        updates, opt_state = tx.update(slopes, opt_state, trained)
        return value, optax.apply_updates(trained, updates), opt_state

    trained = (jax.tree.map(jnp.copy, params), jnp.asarray(head))
    state = [trained, tx.init(trained)]

    def call():
        """One step; the parameters are kept from call to call."""
        value, *state[:] = step(*state)
        return value

    return call


def torch_reward_step(model, head, tokens: np.ndarray, labels: np.ndarray):
    """The same in torch."""
    body, head = model.model, torch.nn.Parameter(torch.tensor(head))
    optimizer = torch.optim.AdamW([*body.parameters(), head], RATE, weight_decay=0.0, fused=True)
    tokens, labels = torch.tensor(tokens), torch.tensor(labels)
    at_end = tokens == STEP_END

    def call():
        optimizer.zero_grad(set_to_none=True)
        logits = body(tokens).last_hidden_state @ head
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[at_end], labels.ravel())
        loss.backward()
        optimizer.step()
        return loss.item()

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
