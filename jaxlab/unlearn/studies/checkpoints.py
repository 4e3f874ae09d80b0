"""Any Hugging Face folder through the same method and metrics: TOFU, one's own data, or MUSE.

Row `tofu-checkpoint`: `--model_dir` is unlearned on TOFU's forget set, or on `forget.jsonl` and
`retain.jsonl` of `--data_dir`. Row `muse-checkpoint`: on the MUSE corpus in `--data_dir`.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxlab import lm, parallel
from jaxlab.runs import Claim, Run, check_finite, digest, latest_step, study_key
from jaxlab.unlearn.answers import FORMATS, Speaker, scoring
from jaxlab.unlearn.data import QA, load_qa, split_indices
from jaxlab.unlearn.methods import method_config
from jaxlab.unlearn.muse import RETRAINED_AUC, chunk_text, load_muse
from jaxlab.unlearn.muse_evaluation import muse_scores
from jaxlab.unlearn.objective import data_parallel_loss
from jaxlab.unlearn.privacy import privleak
from jaxlab.unlearn.studies.tofu_bench import draw_refusals, take
from jaxlab.unlearn.tofu import load_refusals, load_tofu
from jaxlab.unlearn.tofu_evaluation import Evaluation
from jaxlab.unlearn.tofu_metrics import tofu_report
from jaxlab.unlearn.training import epoch_order, reference_logprobs, warmup_linear
from jaxlab.unlearn.types import LMBatch, UnlearnBatch

_WEIGHT_DECAY = 0.01


def method_of(config):
    """The method that the flags describe; a flag that is not given leaves the method's value."""
    names = ("beta", "gamma", "forget_coeff", "retain_coeff")
    given = {name: getattr(config, name) for name in names}
    return method_config(config.method, **{k: v for k, v in given.items() if v is not None})


def measure_tofu(config, run: Run) -> list[Claim]:
    """Unlearns `model_dir` on TOFU or the user's questions, and evaluates before and after."""
    speaker, params = _load(config)
    forget, retain = _questions(config)
    pairs = [(qa.question, qa.answer) for qa in forget]
    refusals = load_refusals()
    drawn = draw_refusals(study_key(config, "checkpoint: refusals"), len(refusals), len(forget))
    idk = [(qa.question, refusals[i]) for qa, i in zip(forget, drawn, strict=True)]
    rows = speaker.encode(pairs), speaker.encode([(qa.question, qa.answer) for qa in retain])
    sets, about = _tofu_sets(config, forget, retain)
    evaluate = Evaluation.encode(speaker, sets, max_new_tokens=config.tofu_answer_tokens).logs
    data = digest((forget, retain))
    before = run.once(f"checkpoint_before_{data}", functools.partial(evaluate, params))
    after = _train(config, run, speaker, params, *rows, speaker.encode(idk), data=data)
    logs = run.once(f"checkpoint_after_{data}", functools.partial(evaluate, after))
    never = None
    if config.retrained_dir:
        _, other = lm.load_hf(config.retrained_dir)
        never = run.once(f"checkpoint_retrained_{data}", functools.partial(evaluate, other))
    lm.save_hf(run.workdir / "artifacts" / "model", speaker.cfg, after)
    speaker.tokenizer.save(run.workdir / "artifacts" / "model")
    said = [_tofu_line(name, part, never) for name, part in (("before", before), ("after", logs))]
    return [
        Claim(
            "tofu-checkpoint",
            f"{config.method} on {Path(config.model_dir).name}",
            "",
            "; ".join(said),
            "reported",
            detail=f"{len(forget)} questions forgotten, {config.epochs} epochs at {config.lr:g}; "
            f"the unlearned model is in artifacts/model. {about} Forget quality needs "
            "--retrained_dir.",
        )
    ]


def measure_muse(config, run: Run) -> list[Claim]:
    """Unlearns `model_dir` on the forget text of a MUSE folder, and measures before and after."""
    speaker, params = _load(config)
    corpus = load_muse(config.data_dir)
    encode = functools.partial(speaker.tokenizer.encode, add_special_tokens=False)
    chunks = functools.partial(
        chunk_text, encode, max_len=speaker.max_len, bos_id=speaker.tokenizer.bos_id
    )
    forget, retain = chunks(corpus.raw["forget"]), chunks(corpus.raw["retain1"])
    score = functools.partial(muse_scores, speaker, corpus=corpus, bos_id=speaker.tokenizer.bos_id)
    data = digest(corpus)
    before = run.once(f"muse_before_{data}", lambda: score(params))
    after = _train(config, run, speaker, params, forget, retain, None, data=data, constant_lr=True)
    found = run.once(f"muse_after_{data}", lambda: score(after))
    said = []
    for name, row in (("before", before), ("after", found)):
        leak = privleak(float(row["auc"]), RETRAINED_AUC[config.muse_corpus])
        fields = ("verbmem", "knowmem_forget", "knowmem_retain")
        numbers = " / ".join(f"{float(row[field]):.1f}" for field in fields)
        said.append(f"{name} {numbers} / {leak:.1f}")
    return [
        Claim(
            "muse-checkpoint",
            f"{config.method} on {Path(config.model_dir).name}",
            "",
            "VerbMem / KnowMem forget / KnowMem retain / PrivLeak: " + "; ".join(said),
            "reported",
            detail=f"{config.epochs} epochs at a constant {config.lr:g}, the last one's model; AUC "
            f"of the retrained model: MUSE's constant for {config.muse_corpus}.",
        )
    ]


def _load(config) -> tuple[Speaker, Any]:
    cfg, params = lm.load_hf(config.model_dir)
    tokenizer = lm.load_tokenizer(config.model_dir)
    if tokenizer.eos_id is None:
        raise ValueError(f"the tokenizer in {config.model_dir} names no end-of-text token")
    form = FORMATS[config.prompt_format]
    if tokenizer.bos_id not in (None, tokenizer.eos_id):
        begin = tokenizer.decode([tokenizer.bos_id])
        form = form._replace(question_prefix=begin + form.question_prefix)
    return Speaker(tokenizer, cfg, lm.make_apply_fn(cfg), form, config.max_len), params


def _questions(config) -> tuple[list[QA], list[QA]]:
    """(forget, retain)."""
    if config.data_dir:
        folder = Path(config.data_dir)
        return load_qa(folder / "forget.jsonl"), load_qa(folder / "retain.jsonl")
    full = load_tofu("full")
    retain, forget = split_indices(len(full), config.forget_percent)
    return [full[i] for i in forget], [full[i] for i in retain]


def _tofu_sets(config, forget: list[QA], retain: list[QA]) -> tuple[dict[str, list[QA]], str]:
    """The four sets of questions that are evaluated, and what to say of the retain set.

    The user's own forget set needs wrong answers in its file; without them in retain.jsonl, TOFU's
    retain set is measured.
    """
    shown, kept = config.tofu_questions, load_tofu("retain_perturbed")
    about = "MU is measured on TOFU's retain set."
    if not config.data_dir:
        count = min(len(forget), 400)
        forget = load_tofu("forget10_perturbed")[-count:]
    elif _have_wrong_answers(retain[:shown]):
        kept, about = retain, "MU is measured on retain.jsonl and TOFU's general questions."
    else:
        about = (
            f"MU is measured on TOFU's retain set: the first {shown} rows of retain.jsonl have no "
            "perturbed_answer, or not as many each."
        )
    if not all(qa.perturbed_answer for qa in forget):
        raise ValueError(
            "forget.jsonl needs perturbed_answer in every row (and paraphrased_answer in all or "
            "none): truth ratios are measured on them"
        )
    sets = {
        "retain": kept[:shown],
        "forget": forget[:shown],
        "real_authors": load_tofu("real_authors_perturbed")[:shown],
        "world_facts": load_tofu("world_facts_perturbed")[:shown],
    }
    return sets, about


def _have_wrong_answers(questions: list[QA]) -> bool:
    counts = {len(qa.perturbed_answer) for qa in questions}
    return len(counts) == 1 and 0 not in counts


def _tofu_line(name: str, logs: dict, never: dict | None) -> str:
    report = tofu_report(logs, never)
    quality = ""
    if report.forget_quality is not None:
        quality = f", FQ {report.forget_quality:.2g} (KS {report.ks_statistic:.3f})"
    return (
        f"{name}: MU {report.model_utility:.3f}, forget probability "
        f"{report.metrics['forget']['prob']:.3f}, ROUGE {report.metrics['forget']['rouge']:.3f}, "
        f"truth ratio {report.metrics['forget']['truth_ratio']:.3f}{quality}"
    )


def _train(
    config,
    run: Run,
    speaker: Speaker,
    params: Any,
    forget: LMBatch,
    retain: LMBatch,
    idk: Any,
    *,
    data: str,
    constant_lr: bool = False,
) -> Any:
    """Data-parallel unlearning with a checkpoint at every epoch's end; goes on after a kill.

    Checkpoints carry `data`, the digest of the texts, in their name. The learning rate rises over
    the first epoch and falls to 0, as for TOFU, or is constant, as for MUSE.
    """
    cfg = method_of(config)
    count = len(forget.tokens)
    # The batch does not depend on the devices: as many take part as divide it.
    batch_size = min(config.batch_size, count)
    local = jax.local_devices()
    devices = local[: max(n for n in range(1, len(local) + 1) if batch_size % n == 0)]
    per_epoch = -(-count // batch_size)
    steps = per_epoch * config.epochs
    form = "pmap" if len(devices) > 1 else "jit"
    model, head = scoring(speaker.cfg)
    loss_fn = data_parallel_loss(model, cfg, mapped=form == "pmap", head=head)
    schedule = optax.constant_schedule(config.lr)
    if not constant_lr:
        schedule = warmup_linear(config.lr, per_epoch, config.epochs)
    optimizer = optax.adamw(schedule, weight_decay=_WEIGHT_DECAY)
    order_key = study_key(config, "checkpoint: order")
    order = np.asarray(epoch_order(order_key, count, steps, batch_size))
    kept_key = study_key(config, "checkpoint: retain rows")
    kept = np.asarray(jax.random.randint(kept_key, order.shape, 0, len(retain.tokens)))
    reference = run.once(
        f"checkpoint_reference_{data}",
        lambda: {
            name: reference_logprobs(model, params, rows, batch_size=batch_size, head=head)
            for name, rows in (("forget", forget), ("idk", idk))
            if cfg.needs_reference and rows is not None
        },
    )

    def batch_at(step: int) -> UnlearnBatch:
        rows = order[step]
        logp = {name: values[rows] for name, values in reference.items()}
        return UnlearnBatch(
            take(forget, rows),
            take(retain, kept[step]) if cfg.retain == "nll" else None,
            take(idk, rows) if cfg.needs_idk else None,
            logp.get("forget"),
            logp.get("idk") if cfg.needs_idk else None,
        )

    folder = run.checkpoint_dir(f"unlearned_{data}")
    state = None
    if latest_step(folder) is not None:
        state = lm.restore_state(folder, parallel.init_train_state(params, optimizer))

    def save(state, means) -> None:
        check_finite(int(state.step), {"loss": means["loss"]}, folder)
        run.log(int(state.step), **{f"checkpoint/{name}": value for name, value in means.items()})
        lm.save_state(folder, state)

    return lm.train(
        loss_fn,
        optimizer,
        params,
        batch_at,
        steps=steps,
        key=study_key(config, "checkpoint: training"),
        state=state,
        on_eval=save,
        eval_every=per_epoch,
        parallel=form,
        devices=devices if form == "pmap" else None,
    ).params
