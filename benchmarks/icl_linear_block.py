"""Training a linear transformer block: jaxlab against eager PyTorch and the literal attention map.

    python benchmarks/icl_linear_block.py --workdir=out/benchmarks/icl_linear_block

The same model, sizes and optimizer, fresh prompts every step, one process, single precision.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from harness import keep_to_processors, parse_arguments, publish, side_by_side

from jaxlab import icl
from jaxlab.runs import Claim, holds

DIM, CONTEXT, BATCH = 5, 10, 256


def ours(steps: int, apply_fn=icl.ltb_apply):
    """One compiled run of `steps` Adam steps."""
    prior = icl.make_prior(np.full(DIM, 2.0, np.float32), noise_var=0.25)
    fit = functools.partial(
        icl.train,
        apply_fn=apply_fn,
        prior=prior,
        num_context=CONTEXT,
        num_steps=steps,
        batch_size=BATCH,
        optimizer=optax.adam(3e-3),
    )
    params = icl.init_ltb(jax.random.key(0), DIM)
    return lambda: fit(jax.random.key(1), params)


def literal_apply(params: icl.LTBParams, tokens: jax.Array) -> jax.Array:
    """The block as it is defined, with the whole (M+1) x (M+1) attention map."""
    W_P, W_V, W_K, W_Q, W_1, W_2 = params
    count = tokens.shape[-1] - 1
    keys = tokens.at[..., -1].set(0)
    scores = jnp.einsum("bim,ki,kj,bjn->bmn", keys, W_K, W_Q, tokens) / count
    mixed = tokens + jnp.einsum("vi,vj,bjm,bmn->bin", W_P, W_V, keys, scores)
    return jnp.einsum("hi,hj,bjn->bin", W_2, W_1, mixed)[:, -1, -1]


def peer(steps: int):
    """The same steps in eager PyTorch, written as its users write them."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(DIM + 1,) * 2] * 2 + [(DIM, DIM + 1)] * 2 + [(DIM + 1,) * 2] * 2
    params = [(0.2 * torch.randn(s, generator=generator)).requires_grad_() for s in shapes]
    W_P, W_V, W_K, W_Q, W_1, W_2 = params
    adam = torch.optim.Adam(params, lr=3e-3, fused=True)

    def train():
        for _ in range(steps):
            w = 2 + torch.randn(BATCH, DIM, generator=generator)
            x = torch.randn(BATCH, CONTEXT + 1, DIM, generator=generator)
            noise = 0.5 * torch.randn(BATCH, CONTEXT + 1, generator=generator)
            y = (x * w[:, None]).sum(-1) + noise
            Z = torch.cat([x[:, :-1], y[:, :-1, None]], -1)
            query = torch.cat([x[:, -1], torch.zeros(BATCH, 1)], -1)
            scores = (Z @ (query @ W_Q.T @ W_K)[..., None]) / CONTEXT
            column = query + (scores * Z).sum(1) @ (W_V.T @ W_P)
            loss = ((column @ (W_1.T @ W_2[:, -1])) - y[:, -1]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()

    return train


def main() -> None:
    arguments = parse_arguments(__doc__, steps=1000)
    steps = arguments.steps
    keep_to_processors(1)  # both sides: these sizes hardly profit from more
    torch.set_num_threads(1)
    sizes = f"d={DIM}, M={CONTEXT}, B={BATCH}, {steps} steps, one processor"
    rows = [
        side_by_side(
            "LTB training",
            ours(steps),
            peer(steps),
            "PyTorch eager",
            rounds=arguments.rounds,
            note=sizes,
        ),
        side_by_side(
            "LTB training",
            ours(steps),
            ours(steps, literal_apply),
            "full attention map, same JAX",
            rounds=arguments.rounds,
            note=sizes,
        ),
    ]
    claims = [
        Claim(
            "IL-speed",
            "Training is at least five times as fast as eager PyTorch",
            "",
            f"{rows[0].speedup:.1f}x ({rows[0].low:.1f} to {rows[0].high:.1f})",
            holds(rows[0].speedup >= 5),
            detail=sizes,
        )
    ]
    publish("Linear transformer block", rows, claims, arguments.workdir)


if __name__ == "__main__":
    main()
