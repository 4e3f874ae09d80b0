"""S1 and S2: the bias of a reference model, on chains of short, long, and unseen sequences."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlab.runs import Claim, Run, holds, progress, spread, study_key
from jaxlab.unlearn import figures
from jaxlab.unlearn.chain_model import ChainTransformer
from jaxlab.unlearn.log_probs import IGNORE_INDEX
from jaxlab.unlearn.markov import CHAINS, markov_kl, markov_mixture, sample_markov
from jaxlab.unlearn.methods import UnlearnConfig
from jaxlab.unlearn.training import relearn, unlearn
from jaxlab.unlearn.types import LMBatch

_LENGTH, _SHORT = 20, 5
_LEARNING_RATE = 5e-4
_UNLEARN_STEPS, _SNAPSHOTS, _UNLEARN_BATCH = 50, 25, 4
_FORGOTTEN = 0.44  # divergence of the retrained model on what it never saw
_TEST_ROWS = 100
_METHODS = {
    "length": {
        "NPO 0.2": UnlearnConfig("npo", beta=0.2),
        "NPO 1": UnlearnConfig("npo", beta=1.0),
        "SimNPO 2.5": UnlearnConfig("simnpo", beta=2.5),
        "SimNPO 4": UnlearnConfig("simnpo", beta=4.0),
        "GA": UnlearnConfig("ga"),
    },
    "memorisation": {
        "NPO 0.2": UnlearnConfig("npo", beta=0.2),
        "NPO 1": UnlearnConfig("npo", beta=1.0),
        "SimNPO 2.5": UnlearnConfig("simnpo", beta=2.5),
        "SimNPO 4": UnlearnConfig("simnpo", beta=4.0),
    },
}
_FULL_STEPS = 600  # training steps of the paper's models; fewer decide nothing


class _Setting(NamedTuple):
    """One experiment's model with its start, sequences to train on, and tokens to measure on."""

    model: ChainTransformer
    init: dict
    rows: dict[str, LMBatch]
    test: dict[str, jax.Array]
    config: Any
    name: str

    @classmethod
    def draw(cls, config, name: str) -> "_Setting":
        model = ChainTransformer(width=config.chain_width, num_layers=config.chain_layers)
        init_key = study_key(config, f"chains, {name}: weights")
        init = model.init(init_key, jnp.zeros((1, _LENGTH), jnp.int32))
        data_key = study_key(config, f"chains, {name}: sequences")
        rows, test = _draw_chains(config, data_key, short=name == "length")
        return cls(model, init, rows, test, config, name)

    def train(self, chains: Sequence[str]) -> dict:
        """Parameters after training on some of the chains."""
        rows = _joined(*(self.rows[chain] for chain in chains))
        batch_size = min(128, len(rows.tokens))
        key = study_key(self.config, f"chains, {self.name}: training on {', '.join(chains)}")
        return relearn(
            key,
            self.model.apply,
            self.init,
            rows,
            optimizer=optax.adamw(_LEARNING_RATE, weight_decay=0.0),
            num_steps=self.config.chain_epochs * len(rows.tokens) // batch_size,
            batch_size=batch_size,
        ).params


def measure(config, run: Run) -> list[Claim]:
    """Both experiments: train, unlearn by every method, compare at equal forgetting."""
    retrained = run.once("markov_retrained", functools.partial(_retrained, config))
    results = {
        name: run.once(f"markov_{name}", functools.partial(_experiment, config, name))
        | {"retrained": retrained[name]}
        for name in progress(_METHODS, "Markov chains")
    }
    for name, result in results.items():
        run.figure(f"markov_{name}", figures.markov(result, name))
    return [_length_bias(config, results["length"]), _memory_bias(config, results["memorisation"])]


def _length_bias(config, result: dict) -> Claim:
    reached = {  # [seeds, 2]: retain distance at which forget1 and forget2 are forgotten
        name: np.stack(
            [
                _value_at(path[chain], path["retain"], _FORGOTTEN)
                for chain in ("forget1", "forget2")
            ],
            axis=1,
        )
        for name, path in result["paths"].items()
    }
    npo, simple = reached["NPO 0.2"], reached["SimNPO 4"]
    uneven, even = npo[:, 1] / npo[:, 0], simple[:, 1] / simple[:, 0]
    met = npo[:, 1].mean() >= 2 * simple[:, 1].mean() and uneven.mean() >= 2 and even.mean() <= 1.3
    return Claim(
        "S1",
        "The reference model makes NPO uneven over short and long answers; SimNPO is not",
        "NPO unlearns short sequences at a higher cost (Fig. 4)",
        f"retain distance at the short chain's forgetting: NPO {_mean(npo[:, 1])}, SimNPO "
        f"{_mean(simple[:, 1])}; short over long: {_mean(uneven)} against {_mean(even)}",
        _judged(config, met),
        detail=f"{_LENGTH} and {_SHORT} states long; {_setting(config)}. Forgotten: divergence "
        f"{_FORGOTTEN}. "
        + "; ".join(
            f"{name} {_mean(values[:, 0])} (long) {_mean(values[:, 1])} (short)"
            for name, values in reached.items()
        )
        + f". {_models(result)} Criterion: NPO (beta 0.2) at least twice SimNPO (beta 4), ratios "
        ">= 2 and <= 1.3.",
    )


def _memory_bias(config, result: dict) -> Claim:
    level = 0.3
    gaps, values = {}, []
    for name, path in result["paths"].items():
        first, second = (_value_at(path["retain"], path[c], level) for c in ("forget1", "forget2"))
        gaps[name] = second - first
        values.append(f"{name} {_mean(first)}, {_mean(second)}")
    npo, simple = gaps["NPO 1"].mean(), gaps["SimNPO 4"].mean()
    met = npo > 0 and npo >= 2 * simple
    return Claim(
        "S2",
        "The reference model makes NPO under-unlearn what is strongly memorised; SimNPO does so "
        "less",
        "(Fig. 5)",
        f"gap between unseen and memorised: NPO {_mean(gaps['NPO 1'])}, SimNPO "
        f"{_mean(gaps['SimNPO 4'])}",
        _judged(config, met),
        unit="nats",
        detail=f"Divergence of the memorised and the unseen chain at retain distance {level}: "
        + "; ".join(values)
        + f". {_setting(config)}. {_models(result)} Criterion: NPO's gap (beta 1) above 0 and at "
        "least twice SimNPO's (beta 4).",
    )


def _retrained(config) -> dict:
    """Divergences of one model that saw the retained chain alone, in both experiments."""
    settings = {name: _Setting.draw(config, name) for name in _METHODS}
    never = settings["memorisation"].train(("retain",))
    return {
        name: _divergences(setting.model, never, setting.test) for name, setting in settings.items()
    }


def _experiment(config, name: str) -> dict:
    """Divergences of the original, and along every method's path `[seeds, snapshots + 1]`."""
    setting = _Setting.draw(config, name)
    seen = CHAINS if name == "length" else ("retain", "forget1")
    original = setting.train(seen)
    start = jax.device_get(_divergences(setting.model, original, setting.test))
    optimizer = optax.adamw(_LEARNING_RATE, weight_decay=0.0)
    unlearn_key = study_key(config, f"chains, {name}: unlearning")
    paths = {}
    for method, cfg in _METHODS[name].items():
        runs = []
        for key in jax.random.split(unlearn_key, config.chain_seeds):
            result = unlearn(
                key,
                setting.model.apply,
                original,
                _joined(setting.rows["forget1"], setting.rows["forget2"]),
                cfg=cfg,
                optimizer=optimizer,
                num_steps=_UNLEARN_STEPS,
                batch_size=_UNLEARN_BATCH,
                num_snapshots=_SNAPSHOTS,
            )
            path = _path_divergences(setting.model, result.params, setting.test)
            runs.append(jax.device_get(path))
        paths[method] = {
            chain: np.stack([np.append(start[chain], path[chain]) for path in runs])
            for chain in CHAINS
        }
    return {"original": start, "paths": paths}


def _draw_chains(config, key: jax.Array, *, short: bool) -> tuple[dict, dict]:
    """Rows to train on and tokens `[rows, T]` to measure on, of each chain."""
    mixture = markov_mixture()
    train, test = {}, {}
    for number, chain in enumerate(CHAINS):
        length = _SHORT if short and chain == "forget2" else _LENGTH
        count = config.chain_sequences // (1 if chain == "retain" else 2)
        tokens = sample_markov(
            jax.random.fold_in(key, number),
            mixture.init[number],
            mixture.trans[number],
            num=count,
            length=length,
        )
        held_out = count // 5
        test[chain] = tokens[:held_out][:_TEST_ROWS]
        padding = ((0, 0), (0, _LENGTH - length))
        rows = tokens[held_out:]
        train[chain] = LMBatch(
            jnp.pad(rows, padding), jnp.pad(rows, padding, constant_values=IGNORE_INDEX)
        )
    return train, test


@functools.partial(jax.jit, static_argnums=0)
def _divergences(model, params, test: dict) -> dict:
    """Divergence of a model from each chain."""
    trans = dict(zip(CHAINS, markov_mixture().trans, strict=True))
    return {
        chain: markov_kl(model.apply(params, rows), rows, trans[chain])
        for chain, rows in test.items()
    }


@functools.partial(jax.jit, static_argnums=0)
def _path_divergences(model, path, test: dict) -> dict:
    """The same of every model along a path, `[snapshots]`."""
    return jax.lax.map(lambda params: _divergences(model, params, test), path)


def _joined(*parts: LMBatch) -> LMBatch:
    return jax.tree.map(lambda *rows: jnp.concatenate(rows), *parts)


def _value_at(rising: np.ndarray, values: np.ndarray, level: float) -> np.ndarray:
    """`values` of each row `[seeds]` where `rising` first crosses `level`; NaN where it never does.

    Linear between the two measurements around the crossing.
    """
    found = np.full(len(rising), np.nan)
    for row, (x, y) in enumerate(zip(rising, values, strict=True)):
        above = np.flatnonzero(x >= level)
        if above.size and above[0] > 0:
            i = above[0]
            share = (level - x[i - 1]) / (x[i] - x[i - 1])
            found[row] = y[i - 1] + share * (y[i] - y[i - 1])
        elif above.size:
            found[row] = y[0]
    return found


def _mean(values: np.ndarray) -> str:
    return f"{spread(values):.3f}" if np.isfinite(values).all() else "not reached"


def _models(result: dict) -> str:
    return " ".join(
        f"{name.capitalize()} model: "
        + ", ".join(f"{chain} {float(result[name][chain]):.3f}" for chain in CHAINS)
        + "."
        for name in ("original", "retrained")
    )


def _judged(config, condition) -> str:
    steps = config.chain_epochs * config.chain_sequences // 128
    enough = config.chain_width >= 128 and steps >= _FULL_STEPS / 2
    return holds(condition) if enough else "reported"


def _setting(config) -> str:
    return (
        f"{2 * config.chain_sequences} sequences, {config.chain_layers} layers of width "
        f"{config.chain_width}, {config.chain_epochs} epochs, {config.chain_seeds} unlearning seeds"
    )
