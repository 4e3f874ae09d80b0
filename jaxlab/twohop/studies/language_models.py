"""C1-LM, C12-LM and C13-LM: the same questions in English, put to a language model on disk."""

import functools
from pathlib import Path

import numpy as np

from jaxlab import lm
from jaxlab.runs import (
    Claim,
    Run,
    check_finite,
    digest,
    holds,
    latest_step,
    not_run,
    restore_checkpoint,
    save_checkpoint,
    study_key,
)
from jaxlab.twohop import figures
from jaxlab.twohop.language import (
    TEXT_ROLES,
    answer_rows,
    count_collisions,
    encode_prompts,
    finetune,
    init_finetuning,
    query_attention,
    score_prompts,
)
from jaxlab.twohop.prompts import PromptScores, load_prompts_json, make_prompts

_STATEMENTS = {
    "C1-LM": "Language models collapse to random guessing when distractors appear",
    "C12-LM": "A few steps of fine-tuning on two chains carry over to five",
    "C13-LM": "Language models guess before fine-tuning and query in sequence after it",
}
_PUBLISHED = {  # p(target) for K = 1 to 5
    "llama-2-7b": (0.816, 0.406, 0.310, 0.249, 0.195),
    "llama-3.1-8b": (0.900, 0.398, 0.318, 0.286, 0.269),
    "qwen2.5-7b": (0.802, 0.290, 0.260, 0.258, 0.239),
    "olmo-7b": (0.720, 0.368, 0.246, 0.180, 0.141),
    "llama-3.1-70b": (0.873, 0.483, 0.453, 0.467, 0.487),
}
_TUNED_CHAINS = 2
_JUDGED_CHAINS = 5
_LARGE = 5e9  # parameters of "a 7B", about which the criterion of C12-LM is


def measure(config, run: Run, trained) -> list[Claim]:
    """Scores the model over the number of chains, before and after fine-tuning on two."""
    if config.model_dir is None:
        reason = "Needs a checkpoint folder of a pretrained language model (--model_dir)."
        return [not_run(i, text, reason) for i, text in _STATEMENTS.items()]
    cfg, params = lm.load_hf(config.model_dir)
    tokenizer = lm.load_tokenizer(config.model_dir)
    tests, training = _prompts(config)
    content = digest((tests, training))
    encoded = {count: encode_prompts(tokenizer, prompts) for count, prompts in tests.items()}
    probe = functools.partial(_probe, config, params, cfg, encoded)
    before = run.once(f"language_before_{content}", probe)
    after = None
    if config.finetune_steps:
        folder = run.checkpoint_dir(f"decayed_adapter_{content}")
        adapter = functools.partial(_tuned, config, run, folder, params, cfg, tokenizer, training)
        after = run.once(f"language_tuned_{content}", lambda: probe(lora=adapter()))
    run.figure("language_by_chains", figures.language_by_chains(before, after))
    if "attention" in before:
        run.figure("language_attention", figures.language_attention(before, after, TEXT_ROLES))
    return [
        _collapse(config, before),
        _carries_over(config, after, lm.count_params(params)),
        _mechanism(before, after),
    ]


def _prompts(config) -> tuple[dict, list]:
    """Test prompts by number of chains, and other prompts to fine-tune on."""
    if config.prompts_json is None:
        tests = {
            count: make_prompts(1000 * config.seed + count, count, config.lm_prompts)
            for count in config.lm_chains
        }
        asked = {prompt.question for prompt in tests.get(_TUNED_CHAINS, ())}
        drawn = make_prompts(1000 * config.seed + 10, _TUNED_CHAINS, config.finetune_prompts)
        return tests, [prompt for prompt in drawn if prompt.question not in asked]
    tests = load_prompts_json(config.prompts_json)
    training = []
    if config.finetune_steps:
        if len(tests.get(_TUNED_CHAINS, ())) < 2:
            raise ValueError(
                f"{config.prompts_json} holds no prompts of {_TUNED_CHAINS} chains to fine-tune "
                "on; use --finetune_steps=0"
            )
        # Every second prompt is held out for the test.
        both = tests[_TUNED_CHAINS]
        training, tests[_TUNED_CHAINS] = both[::2], both[1::2]
    return tests, training


def _probe(config, params, cfg, encoded: dict, lora=None) -> dict:
    """Scores `[K]`, and the query's attention `[K, L, H, 8]` where the roles are known."""
    counts = sorted(encoded)
    score = functools.partial(
        score_prompts, params, cfg, lora=lora, batch_size=config.lm_batch_size
    )
    scores = [score(encoded[count]) for count in counts]
    result = {
        "chains": np.array(counts),
        "collisions": np.array([count_collisions(encoded[count]) for count in counts]),
        "prompts": np.array([len(encoded[count].tokens) for count in counts]),
        **{name: np.stack([getattr(row, name) for row in scores]) for name in PromptScores._fields},
    }
    if all(prompts.roles is not None for prompts in encoded.values()):
        shown = config.lm_attention_prompts
        few = {
            count: prompts._replace(
                **{name: getattr(prompts, name)[:shown] for name in prompts._fields}
            )
            for count, prompts in encoded.items()
        }
        result["attention"] = np.stack(
            [query_attention(params, cfg, few[count], lora=lora) for count in counts]
        )
    return result


def _tuned(config, run: Run, folder: Path, params, cfg, tokenizer, training: list) -> lm.Lora:
    """The adapter, trained or continued from its checkpoint in `folder`."""
    steps, lr = config.finetune_steps, config.finetune_lr
    state = init_finetuning(
        study_key(config, 40),
        params,
        steps=steps,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        lr=lr,
    )
    if latest_step(folder) is not None:
        state = restore_checkpoint(folder, state)
    batches = lm.Batches(answer_rows(tokenizer, training), config.lm_batch_size, seed=config.seed)

    def on_step(state, metrics) -> None:
        step = int(state.step)
        check_finite(step, {"loss": metrics["loss"]}, folder)
        run.log(step, **{"adapter/loss": metrics["loss"]})
        if step % config.checkpoint_every == 0 or step == steps:
            save_checkpoint(folder, state, step=step, keep=1)

    return finetune(state, params, cfg, batches, steps=steps, lr=lr, on_step=on_step)


def _collapse(config, scores: dict) -> Claim:
    name = Path(config.model_dir).name.lower().removesuffix("-hf")
    published = next((row for key, row in _PUBLISHED.items() if name.endswith(key)), None)
    target, other, chains = scores["p_target"], scores["p_other"], scores["chains"]
    detail = f"{config.model_dir}: {_about(scores)} "
    if config.prompts_json is not None and published is not None and set(chains) <= {1, 2, 3, 4, 5}:
        wanted = np.array(published)[chains - 1]
        verdict = holds((abs(target - wanted) <= 0.05).all())
        detail += "Prompt file. Criterion: p(target) within 0.05 of the published value at every K."
    elif {1, 2} <= set(chains.tolist()):
        at_two = int(np.flatnonzero(chains == 2)[0])
        falls = (np.diff(target) < 0).all()
        verdict = holds(falls and abs(target[at_two] - other[at_two]) < 0.1)
        detail += (
            "Criterion, where wording or model is not the published one: p(target) falls with "
            "every chain, and is within 0.1 of p(other end) at K = 2."
        )
    else:
        verdict, detail = "reported", detail + "No criterion without K = 1 and K = 2."
    paper = "p(target) " + ", ".join(map(str, published or _PUBLISHED["llama-2-7b"]))
    return Claim("C1-LM", _STATEMENTS["C1-LM"], paper, _shown(scores), verdict, detail=detail)


def _carries_over(config, scores: dict | None, size: int) -> Claim:
    statement, paper = _STATEMENTS["C12-LM"], "p(target) 0.50 to 1.00 at K = 5 after fine-tuning"
    if scores is None:
        reason = "Fine-tuning is switched off (--finetune_steps)."
        return not_run("C12-LM", statement, reason, paper=paper)
    judged = scores["p_target"][scores["chains"] == _JUDGED_CHAINS]
    detail = (
        f"LoRA, rank {config.lora_rank}, {config.finetune_steps} steps on prompts of "
        f"{_TUNED_CHAINS} chains, none of them among the test's (in the paper K = 2 is the "
        f"training set). {_about(scores)} Criterion for a model of 7 billion parameters: "
        f"p(target) >= 0.8 at K = {_JUDGED_CHAINS}; this one has {size:.2g}."
    )
    verdict = holds(judged[0] >= 0.8) if size >= _LARGE and judged.size else "reported"
    return Claim("C12-LM", statement, paper, _shown(scores), verdict, detail=detail)


def _mechanism(before: dict, after: dict | None) -> Claim:
    detail = (
        "Largest attention of one head from the last position, at the most chains. No criterion: "
        "the official code has no evidence on attention heads of language models."
    )
    if "attention" not in before:
        reason = "Prompt files do not say where their entities stand."
        return not_run("C13-LM", _STATEMENTS["C13-LM"], reason)
    parts = []
    for name, scores in (("before", before), ("after", after)):
        if scores is not None:
            heads = scores["attention"][-1].max((0, 1))
            shares = {role: heads[TEXT_ROLES.index(role)] for role in ("src", "brg1", "end")}
            gap = scores["p_target"][-1] - scores["p_other"][-1]
            shown = ", ".join(f"{role} {share:.2f}" for role, share in shares.items())
            parts.append(f"{name}: {shown}, p(target) - p(other) {gap:.3f}")
    return Claim("C13-LM", _STATEMENTS["C13-LM"], "", "; ".join(parts), "reported", detail=detail)


def _shown(scores: dict) -> str:
    rows = zip(
        scores["chains"], scores["p_target"], scores["p_other"], scores["accuracy"], strict=True
    )
    return "; ".join(
        f"K = {count}: p(target) {target:.3f}"
        + ("" if np.isnan(other) else f", p(other) {other:.3f}")
        + f", accuracy {accuracy:.2f}"
        for count, target, other, accuracy in rows
    )


def _about(scores: dict) -> str:
    return (
        f"{', '.join(map(str, scores['prompts']))} prompts for K = "
        f"{', '.join(map(str, scores['chains']))}, of which "
        f"{', '.join(map(str, scores['collisions']))} have two ends with one first token."
    )
