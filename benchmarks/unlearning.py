"""One step of NPO with a retain term against PyTorch and transformers: same weights and batch.

    python benchmarks/unlearning.py --threads=1 --workdir=out/benchmarks/unlearning

The peer evaluates the reference model in every step, as the published code does. Ours does so too
in one row, and reads log-probabilities that were computed once in the others. Writes S4-speed.
"""

import tempfile

import harness
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers

from jaxlab import lm, unlearn
from jaxlab.runs import Claim, holds
from jaxlab.unlearn.answers import scoring

SIZES = {
    "vocab_size": 8192,
    "n_embd": 256,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
ROWS, LENGTH, PROMPT = 16, 128, 32
_UNCACHED = "NPO+RT, reference in every step"
BETA, RATE, WEIGHT_DECAY = 0.1, 1e-5, 0.01


def main() -> None:
    arguments = harness.parse_arguments(__doc__.splitlines()[0], threads=1)
    harness.keep_to_processors(arguments.threads)
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        cfg, params = lm.load_hf(folder)
    tokens = np.random.default_rng(0).integers(3, SIZES["vocab_size"], (2, ROWS, LENGTH))
    peer, peer_loss = peer_step(model, tokens)
    note = f"{arguments.threads} thread(s) each; {ROWS} + {ROWS} rows of {LENGTH} tokens"
    rows, losses = [], [peer_loss()]
    for name, step, loss in our_steps(cfg, params, tokens):
        losses.append(float(loss))
        rows.append(
            harness.side_by_side(
                name,
                step,
                peer,
                "transformers, NPO with reference",
                rounds=arguments.rounds,
                note=note,
            )
        )
        floor = products_alone(cfg, with_reference=name == _UNCACHED)
        rows.append(
            harness.side_by_side(
                name,
                step,
                floor,
                "its matrix products alone (1 is the floor)",
                rounds=arguments.rounds,
                note=f"{products_flops(cfg, name == _UNCACHED) / 1e9:.0f} GFLOP of products",
            )
        )
    apart = max(abs(loss - losses[0]) for loss in losses[1:3])
    uncached, cached, simple = (row.speedup for row in rows[::2])
    floors = [row.speedup for row in rows[1::2]]
    rate = products_flops(cfg, False) / rows[3].peer_s
    claims = [
        Claim(
            "S4-speed",
            "A step of unlearning is faster than in PyTorch, and faster still without the "
            "reference's forward pass",
            "",
            f"{uncached:.2f}x, {cached:.2f}x with the reference computed once, SimNPO "
            f"{simple:.2f}x",
            holds(uncached >= 1.5 and cached >= 2 and apart < 1e-3),
            detail=f"GPT-2 of 4 layers, width 256, vocabulary 8192; {note}; the losses of the "
            f"first NPO step differ by {apart:.0e}. The step's matrix products alone take "
            f"{floors[0]:.2f}, {floors[1]:.2f} and {floors[2]:.2f} of its time, at "
            f"{rate / 1e9:.0f} GFLOP/s; were they all, it would be {uncached / floors[0]:.2f}x and "
            f"{cached / floors[1]:.2f}x. Criterion: >= 1.5 with the reference, >= 2 with stored "
            "values.",
        )
    ]
    title = f"unlearning against transformers {transformers.__version__}, torch {torch.__version__}"
    harness.publish(title, rows, claims, arguments.workdir)


def scored(tokens: np.ndarray) -> np.ndarray:
    """Labels with the prompt unscored."""
    labels = tokens.copy()
    labels[:, :PROMPT] = -100
    return labels


def our_steps(cfg, params, tokens):
    """(name, step, loss of the first step) with and without stored reference values, and SimNPO."""
    hidden_fn, head = scoring(cfg)
    head = head.fitted(scored(tokens[0]), np.arange(ROWS)[None])
    forget, retain = (
        unlearn.LMBatch(jnp.asarray(rows, jnp.int32), jnp.asarray(scored(rows), jnp.int32))
        for rows in tokens
    )
    plain = unlearn.UnlearnBatch(forget, retain)
    stored = plain._replace(
        ref_forget_logp=unlearn.reference_logprobs(
            hidden_fn, params, forget, batch_size=ROWS, head=head
        )
    )
    optimizer = optax.adamw(RATE, weight_decay=WEIGHT_DECAY)
    for name, method, batch, ref_params in (
        (_UNCACHED, "npo+rt", plain, params),
        ("NPO+RT, reference computed once", "npo+rt", stored, None),
        ("SimNPO+RT", "simnpo+rt", plain, None),
    ):
        objective = unlearn.make_objective(hidden_fn, unlearn.method_config(method), head=head)
        step = jax.jit(unlearn.make_step(objective, optimizer), donate_argnums=0)
        state = unlearn.init_state(jax.tree.map(jnp.copy, params), optimizer)

        def run(step=step, batch=batch, ref_params=ref_params, holder=[state]):  # noqa: B006
            holder[0], metrics = step(holder[0], ref_params, batch)
            return metrics["loss"]

        yield name, run, run()


def products_alone(cfg, *, with_reference: bool):
    """The matrix products of a step and nothing else: the floor at this machine's own rate.

    Forward and both backward products of every weight over all rows, and of the head over what is
    scored; attention's products are left out, they are about 5% of the work here.
    """
    keys = iter(jax.random.split(jax.random.key(0), 64))

    def draw(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape) / shape[0] ** 0.5

    shapes = _weight_shapes(cfg)
    layers = [[draw(*shape) for shape in shapes] for _ in range(cfg.n_layers)]
    head = draw(cfg.d_model, cfg.vocab_size)
    x = draw(2 * ROWS * LENGTH, cfg.d_model)
    pull = draw(2 * ROWS * (LENGTH - PROMPT), cfg.vocab_size)

    def forward(weights, x):
        layers, head = weights
        for products in layers:
            for weight in products:
                x = x[:, : weight.shape[0]] @ weight
        scored_rows = len(x) * (LENGTH - PROMPT) // LENGTH
        return x[:scored_rows, : cfg.d_model] @ head

    # The pull is an argument: a constant would be folded into the program.
    gradient = jax.jit(lambda w, x, pull: jax.vjp(forward, w, x)[1](pull))
    reference = jax.jit(lambda w, x: forward(w, x[: ROWS * LENGTH]))

    def run():
        found = gradient((layers, head), x, pull)
        return (found, reference((layers, head), x)) if with_reference else found

    return run


def products_flops(cfg, with_reference: bool) -> float:
    """Multiplications and additions of `products_alone`."""
    inside = cfg.n_layers * sum(a * b for a, b in _weight_shapes(cfg))
    scored = (LENGTH - PROMPT) / LENGTH * cfg.d_model * cfg.vocab_size
    both = 2 * (inside + scored) * 2 * ROWS * LENGTH
    return 3 * both + (both / 2 if with_reference else 0)


def _weight_shapes(cfg) -> list[tuple[int, int]]:
    """Weights of a block that a token meets, in order."""
    width = cfg.d_model
    return [(width, 3 * width), (width, width), (width, cfg.d_ff), (cfg.d_ff, width)]


def peer_step(model, tokens):
    """(one AdamW step, its first loss) in PyTorch, the reference evaluated each time."""
    reference = transformers.GPT2LMHeadModel(model.config)
    reference.load_state_dict(model.state_dict())
    reference.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    forget, retain = (torch.from_numpy(rows) for rows in tokens)
    forget_labels, retain_labels = (torch.from_numpy(scored(rows)) for rows in tokens)

    def answer_log_prob(network, rows, labels):
        log_probs = network(rows).logits[:, :-1].log_softmax(-1)
        mask = labels[:, 1:] != -100
        chosen = log_probs.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
        return (chosen * mask).sum(-1)

    def loss():
        with torch.no_grad():
            before = answer_log_prob(reference, forget, forget_labels)
        ratio = answer_log_prob(model, forget, forget_labels) - before
        forgotten = 2 / BETA * torch.nn.functional.softplus(BETA * ratio).mean()
        return forgotten + model(retain, labels=retain_labels).loss

    def step():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value.item()

    return step, lambda: loss().item()


if __name__ == "__main__":
    main()
