"""What the studies train and on what terms they judge: a language model of documents, verdicts."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import lm
from jaxlab.align.documents import document_model, sample_documents
from jaxlab.align.policy import Policy, lm_policy
from jaxlab.align.schedule import SpecRejConfig
from jaxlab.runs import Run, check_finite, holds, study_key

PROMPT_LEN = 2  # begin-of-text and topic
FULL_ROWS, FULL_TOKENS = 256, 510  # the sizes that the criteria are stated for


class Model(NamedTuple):
    """A causal model with its parameters on the device."""

    cfg: lm.LMConfig
    params: Any

    @property
    def policy(self) -> Policy:
        return lm_policy(self.params, self.cfg)


def language_model(config, run: Run) -> Model:
    """The model that all studies of documents sample from, trained once per run."""
    cfg = document_model(PROMPT_LEN + config.max_new_tokens)

    def compute():
        rng = np.random.default_rng((config.seed, 0))
        count = config.lm_steps * config.lm_rows
        documents = sample_documents(rng, count, config.lm_length, sigma=config.sigma)
        trained = train_language_model(study_key(config, 0), cfg, documents, config.lm_rows, 3e-3)
        for step, loss in zip(trained["steps"], trained["losses"], strict=True):
            run.log(int(step), **{"language_model/loss": loss})
        return trained

    trained = run.once("language_model", compute)
    return Model(cfg, on_device(trained["params"]))


def train_language_model(
    key: jax.Array, cfg: lm.LMConfig, rows: np.ndarray, batch_size: int, peak_lr: float
) -> dict:
    """One pass over token rows [R, T]: the parameters, and the loss in nats per token by step.

    Raises:
      FloatingPointError: a loss that left the finite numbers.
    """
    steps, curve = len(rows) // batch_size, []

    def keep(state, means) -> None:
        check_finite(int(state.step), {"loss": means["loss"]})
        curve.append((int(state.step), means["loss"]))

    optimizer = lm.OptimizerConfig(
        peak_lr=peak_lr, warmup_steps=min(20, steps), total_steps=steps, weight_decay=0.01
    )
    state = lm.train(
        lambda params, batch, key: lm.next_token_loss(params, cfg, batch),
        lm.make_optimizer(optimizer),
        lm.init_params(key, cfg),
        lambda step: {"tokens": rows[step * batch_size : (step + 1) * batch_size]},
        steps=steps,
        key=key,
        on_eval=keep,
        eval_every=10,
    )
    numbers, losses = np.transpose(curve)
    return {"params": state.params, "steps": numbers, "losses": losses}


def on_device(params: Any) -> Any:
    """Stored parameters as device arrays, so that no call transfers them again."""
    return jax.tree.map(jnp.asarray, params)


def search_settings(config, alpha: float, max_new_tokens: int) -> SpecRejConfig:
    """The search whose memory is full after `first_segment` tokens of `n_init` rows."""
    return SpecRejConfig(
        max_new_tokens=max_new_tokens,
        capacity_tokens=config.n_init * (PROMPT_LEN + config.first_segment),
        alpha=alpha,
        n_init=config.n_init,
    )


def baseline_rows(config) -> int:
    """N of the Best-of-N that quality is measured against: an eighth of the rows."""
    return max(config.n_init // 8, 2)


def judged(config, condition) -> str:
    """The verdict at the sizes a criterion is stated for; below them the figures alone."""
    full = config.n_init >= FULL_ROWS and config.max_new_tokens >= FULL_TOKENS
    return holds(condition) if full else "reported"


class Stopwatch:
    """Times calls; the first call of a name in this process compiles, so it is made twice."""

    def __init__(self):
        self._warm: set[str] = set()

    def __call__(self, name: str, call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """(result, {"seconds": wall, "cpu_seconds": of all threads})."""
        if name not in self._warm:
            call()
            self._warm.add(name)
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        return result, {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
