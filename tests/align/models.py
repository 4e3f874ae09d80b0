"""Small perturbed models that the tests of policies and rewards share."""

import jax

from jaxlab import lm
from tests.lm.tiny import config, perturbed

PROMPT_LEN = 5


def causal(variant="llama", **changes):
    cfg = config(variant, **({"vocab_size": 31, "n_layers": 2} | changes))
    return cfg, perturbed(cfg)


def classifier(labels=2):
    cfg, _ = causal(num_labels=labels)
    return cfg, perturbed(cfg, seed=7)


def prompt():
    return jax.random.randint(jax.random.key(11), (PROMPT_LEN,), 1, 31)


SAMPLING = lm.SamplingConfig(temperature=0.9, top_k=20)
