"""Training and patching the three-layer transformer: jaxlab against eager PyTorch.

    python benchmarks/two_hop_reasoning.py --workdir=out/benchmarks/two_hop_reasoning

The same model, sizes and optimizer, one process, single precision. PyTorch runs on one thread, so
processor seconds are compared; wall ratios are in the notes. Its problems are drawn beforehand,
while ours are drawn inside the timed program.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from harness import parse_arguments, publish, side_by_side

from jaxlab import parallel, twohop
from jaxlab.runs import Claim, holds
from jaxlab.twohop.training import Piece, advance

TASK = twohop.TaskConfig()
SIZES = ((128, 256), (64, 128))  # (dim, batch)
PATCH_DIM, PATCH_BATCH = 64, 256


class Block(torch.nn.Module):
    """Pre-norm attention with four projections, as the official code has it."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = torch.nn.LayerNorm(dim)
        self.q, self.k, self.v, self.o = (torch.nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x, mask):
        h = self.norm(x)
        scores = self.q(h) @ self.k(h).mT / x.shape[-1] ** 0.5
        return x + self.o((scores + mask).softmax(-1) @ self.v(h))


class Decoder(torch.nn.Module):
    """Three layers, attention only; `patch` is (layer, rows, positions, values)."""

    def __init__(self, dim: int):
        super().__init__()
        self.token = torch.nn.Embedding(TASK.n_tokens, dim)
        self.position = torch.nn.Embedding(TASK.seq_len, dim)
        self.blocks = torch.nn.ModuleList(Block(dim) for _ in range(3))
        self.norm = torch.nn.LayerNorm(dim)
        self.unembed = torch.nn.Linear(dim, TASK.n_tokens, bias=False)
        mask = torch.full((TASK.seq_len, TASK.seq_len), -torch.inf).triu(1)
        self.register_buffer("mask", mask)

    def forward(self, tokens, patch=None):
        x = self.token(tokens) + self.position.weight
        states = []
        for number, block in enumerate([*self.blocks, None]):
            if patch is not None and patch[0] == number:
                x = x.clone()
                x[patch[1], patch[2]] = patch[3]
            states.append(x)
            x = x if block is None else block(x, self.mask)
        return self.unembed(self.norm(x)), states


def our_training(dim: int, batch: int, steps: int):
    """One compiled chunk of `steps` AdamW steps, problems included."""
    model = twohop.ModelConfig(dim=dim)
    recipe = twohop.TrainConfig("adamw", 5e-4, batch_size=batch)
    chunk = jax.jit(
        functools.partial(
            advance, task=TASK, model=model, train=recipe, piece=Piece(steps, 0, steps)
        ),
        donate_argnums=0,
    )
    params = twohop.init_params(jax.random.key(0), model)
    state = parallel.init_train_state(params, twohop.make_optimizer(recipe))

    def call():
        nonlocal state
        state, loss = chunk(state, jax.random.key(1))
        return loss

    return call


def peer_training(dim: int, batch: int, steps: int):
    """The same steps in eager PyTorch: all logits, the loss at the query."""
    torch.manual_seed(0)
    model = Decoder(dim)
    adam = torch.optim.AdamW(
        model.parameters(), lr=5e-4, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
    )
    drawn = [twohop.sample_batch(jax.random.key(i), TASK, batch) for i in range(8)]
    tokens = [torch.tensor(np.asarray(problems.tokens)).long() for problems in drawn]
    answers = [torch.tensor(np.asarray(problems.answer)).long() for problems in drawn]

    def call():
        for step in range(steps):
            logits, _ = model(tokens[step % 8])
            loss = torch.nn.functional.cross_entropy(logits[:, -1], answers[step % 8])
            adam.zero_grad()
            loss.backward()
            adam.step()

    return call


def our_sweep():
    """Every layer and role patched in one compiled program."""
    model = twohop.ModelConfig(dim=PATCH_DIM)
    params = twohop.init_params(jax.random.key(0), model)
    batch = twohop.sample_batch(jax.random.key(1), TASK, PATCH_BATCH)
    corrupt = twohop.counterfactual(batch, "bridge", (batch.target + 1) % TASK.n_chains)
    sweep = jax.jit(functools.partial(twohop.patch_sweep, config=model))
    places = twohop.role_positions(batch)
    return lambda: sweep(params, batch.tokens, corrupt.tokens, batch.answer, places)


def peer_sweep():
    """A forward pass per patch, as activation patching is written with hooks."""
    torch.manual_seed(0)
    model = Decoder(PATCH_DIM)
    batch = twohop.sample_batch(jax.random.key(1), TASK, PATCH_BATCH)
    corrupt = twohop.counterfactual(batch, "bridge", (batch.target + 1) % TASK.n_chains)
    clean, other = (torch.tensor(np.asarray(b.tokens)).long() for b in (batch, corrupt))
    answer = torch.tensor(np.asarray(batch.answer)).long()
    places = torch.tensor(np.asarray(twohop.role_positions(batch))).long()
    rows = torch.arange(PATCH_BATCH)

    @torch.no_grad()
    def call():
        _, states = model(clean)
        table = torch.zeros(4, 5)
        for layer in range(4):
            for role in range(5):
                position = places[:, role]
                patch = (layer, rows, position, states[layer][rows, position])
                logits, _ = model(other, patch)
                table[layer, role] = logits[:, -1].softmax(-1)[rows, answer].mean()
        return jnp.asarray(table.numpy())

    return call


def main() -> None:
    arguments = parse_arguments(__doc__, steps=20)
    torch.set_num_threads(1)
    compare = functools.partial(side_by_side, rounds=arguments.rounds, clock="cpu")
    rows = []
    for dim, batch in SIZES:
        row = compare(
            f"{arguments.steps} training steps",
            our_training(dim, batch, arguments.steps),
            peer_training(dim, batch, arguments.steps),
            "PyTorch eager, 1 thread",
        )
        rows.append(_noted(row, f"dim {dim}, batch {batch}"))
    sweep = compare("patch sweep", our_sweep(), peer_sweep(), "PyTorch, a pass per patch")
    rows.append(_noted(sweep, f"4 x 5 patches, dim {PATCH_DIM}, batch {PATCH_BATCH}"))
    training = rows[: len(SIZES)]
    claims = [
        Claim(
            "C-speed",
            "A training step takes at most half the processor time of eager PyTorch",
            "",
            ", ".join(f"{row.speedup:.1f}x ({row.low:.1f} to {row.high:.1f})" for row in training),
            holds(min(row.speedup for row in training) >= 2),
            detail="; ".join(row.note for row in training),
        )
    ]
    publish("Two-hop reasoning", rows, claims, arguments.workdir)


def _noted(row, sizes: str):
    ours, peer = 1e3 * row.ours_cpu_s, 1e3 * row.peer_cpu_s
    return row._replace(
        note=f"{sizes}; ratios are of processor time, {ours:.0f} against {peer:.0f} ms; of wall "
        f"time {row.peer_s / row.ours_s:.2f}x"
    )


if __name__ == "__main__":
    main()
