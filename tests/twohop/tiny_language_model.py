"""A language model small enough to train in a test, on disk as a pretrained one would be."""

import jax
import optax

from jaxlab import lm, twohop


def write(folder, steps=60):
    """Trains on the answers of one-chain prompts; writes config, weights and tokenizer."""
    prompts = [p for count in (1, 2, 5) for p in twohop.make_prompts(count, count, 60)]
    tokenizer = lm.train_tokenizer((p.question + p.answer for p in prompts), 700)
    cfg = lm.LMConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=32,
        n_layers=2,
        n_heads=2,
        n_kv_heads=2,
        head_dim=16,
        d_ff=64,
        max_seq_len=512,
        tie_embeddings=True,
    )
    params = lm.init_params(jax.random.key(0), cfg)
    batches = lm.Batches(twohop.answer_rows(tokenizer, prompts[:60]), 16, seed=0)
    state = lm.train(
        lambda params, batch, _: lm.next_token_loss(params, cfg, batch),
        optax.adam(1e-2),
        params,
        batches,
        steps=steps,
        key=jax.random.key(0),
    )
    lm.save_hf(folder, cfg, state.params)
    tokenizer.save(folder)
