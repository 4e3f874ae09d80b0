"""Metrics of TOFU: probability, truth ratio, model utility, forget quality.

Host functions in float64. NLL is the mean negative log-likelihood per token of an answer, nats;
ratios are formed in log space, since a collapsed model's NLL of hundreds underflows. N questions,
K wrong answers to each.

Source: Maini et al., "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv 2401.06121.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import ks_2samp

from jaxlab.checks import check_choice, check_equal_shapes

RATIO_MEANS = ("geometric", "arithmetic")
RATIO_KINDS = ("forget", "utility")
# The four question sets and their names in the official logs.
SPLITS = {
    "retain": "eval_log.json",
    "forget": "eval_log_forget.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
}
_LOG_LIMIT = 700.0  # a ratio's logarithm is cut here, inside float64's range
_LOGGED = ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss", "rougeL_recall")


class ForgetQuality(NamedTuple):
    """Two-sample Kolmogorov-Smirnov test of truth ratios; above 0.05 counts as forgotten.

    Attributes:
      pvalue: two-sided.
      statistic: largest distance between the distribution functions.
    """

    pvalue: float
    statistic: float


class TofuReport(NamedTuple):
    """All of TOFU's numbers.

    Attributes:
      metrics: of `retain`, `forget`, `real_authors` and `world_facts` each `prob`, `rouge` and
        `truth_ratio`.
      model_utility: harmonic mean of the nine that are not of `forget`.
      forget_truth_ratio: `[N]` float64.
      forget_quality: p-value against the retrained model, None without its logs.
      ks_statistic: None without them.
    """

    metrics: dict[str, dict[str, float]]
    model_utility: float
    forget_truth_ratio: np.ndarray
    forget_quality: float | None
    ks_statistic: float | None


def normalized_prob(logp: np.ndarray, length: np.ndarray) -> np.ndarray:
    """P(a | q)^(1 / |a|) `[...]`: the geometric mean of the answer's token probabilities.

    Args:
      logp: `[...]` log-probability of the answer, nats.
      length: `[...]` its number of tokens; at least 1 is taken.

    Raises:
      ValueError: unequal shapes.
    """
    check_equal_shapes(logp=logp, length=length)
    return np.exp(np.asarray(logp, np.float64) / np.maximum(length, 1))


def option_prob(true_prob: np.ndarray, wrong_prob: np.ndarray) -> np.ndarray:
    """P(a) / (P(a) + sum_k P(wrong_k)) of each question `[N]`; 0 where all are 0.

    Args:
      true_prob: `[N]`.
      wrong_prob: `[N, K]`.

    Raises:
      ValueError: other shapes.
    """
    true_prob, wrong_prob = _paired(true_prob, wrong_prob)
    total = true_prob + wrong_prob.sum(1)
    return np.divide(true_prob, total, out=np.zeros_like(true_prob), where=total > 0)


def truth_ratio(
    para_nll: np.ndarray, pert_nll: np.ndarray, *, mean: str = "geometric"
) -> np.ndarray:
    """How much likelier wrong answers are than a paraphrase of the right one, R `[N]`.

    R = mean_k P(wrong_k) / P(paraphrase): near 0 for a model that knows, and for a model that
    never saw the questions whatever it then is, not 1. The logs of the original code hold 1 / R.

    Args:
      para_nll: `[N]` NLL per token of the paraphrased answer.
      pert_nll: `[N, K]` NLL per token of the wrong answers.
      mean: over k; `geometric` as in all published code, `arithmetic` as in the papers' formula.

    Raises:
      ValueError: unknown mean, or other shapes.
    """
    check_choice("mean", mean, RATIO_MEANS)
    para_nll, pert_nll = _paired(para_nll, pert_nll)
    difference = para_nll[:, None] - pert_nll
    if mean == "geometric":
        log_ratio = difference.mean(1)
    else:
        log_ratio = np.logaddexp.reduce(difference, axis=1) - np.log(difference.shape[1])
    return np.exp(np.clip(log_ratio, -_LOG_LIMIT, _LOG_LIMIT))


def truth_ratio_score(ratio: np.ndarray, *, kind: str = "forget") -> float:
    """The number that tables report: `forget` mean min(R, 1 / R), `utility` mean max(0, 1 - R).

    Raises:
      ValueError: unknown kind, no ratios, or ratios that are negative or NaN.
    """
    check_choice("kind", kind, RATIO_KINDS)
    ratio = np.asarray(ratio, np.float64)
    if ratio.size == 0 or not (ratio >= 0).all():
        raise ValueError(f"truth ratios must be >= 0 and not empty, got {ratio}")
    if kind == "utility":
        return float(np.maximum(0, 1 - ratio).mean())
    with np.errstate(divide="ignore"):
        return float(np.minimum(ratio, 1 / ratio).mean())


def forget_quality(ratio_unlearned: np.ndarray, ratio_retrained: np.ndarray) -> ForgetQuality:
    """Whether the truth ratios look like those of a model that never saw the forget set.

    It depends on the number of questions: 40 give a p-value above 1e-3 even to bad models.

    Args:
      ratio_unlearned, ratio_retrained: `[N]` and `[M]` truth ratios on the forget set.

    Raises:
      ValueError: no ratios, or ratios that are not finite.
    """
    samples = [np.asarray(x, np.float64).ravel() for x in (ratio_unlearned, ratio_retrained)]
    for name, sample in zip(("ratio_unlearned", "ratio_retrained"), samples, strict=True):
        if sample.size == 0 or not np.isfinite(sample).all():
            raise ValueError(
                f"{name} must hold finite numbers, got {sample.size} values of which "
                f"{np.count_nonzero(~np.isfinite(sample))} are not finite"
            )
    with warnings.catch_warnings():
        # Where the exact p-value underflows, scipy says so and takes the asymptotic one.
        warnings.filterwarnings("ignore", message="ks_2samp: Exact", category=RuntimeWarning)
        test = ks_2samp(*samples)
    return ForgetQuality(float(test.pvalue), float(test.statistic))


def model_utility(values: Sequence[float]) -> float:
    """Harmonic mean of numbers >= 0; 0 as soon as one is 0.

    Raises:
      ValueError: no values, or one that is negative or not finite.
    """
    values = np.asarray(list(values), np.float64)
    if values.size == 0 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"utilities must be finite, >= 0 and not empty, got {values.tolist()}")
    return 0.0 if (values == 0).any() else float(values.size / np.sum(1 / values))


def tofu_report(
    logs: Mapping[str, Mapping[str, Any]],
    retrained_logs: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    mean: str = "geometric",
) -> TofuReport:
    """All of TOFU's numbers from logs in the layout of the official evaluation.

    Args:
      logs: `eval_log.json` (retain), `eval_log_forget.json`, `eval_real_author_wo_options.json`
        and `eval_real_world_wo_options.json`, each with `avg_gt_loss` `[N]`,
        `avg_paraphrased_loss` `[N]`, `average_perturb_loss` `[N, K]` and `rougeL_recall` `[N]`,
        as lists or as dicts from question number to value.
      retrained_logs: the same of the model that never saw the forget set.
      mean: of the truth ratio, see `truth_ratio`.

    Raises:
      ValueError: a set or a number that is missing, by name; shapes that do not fit.
    """
    metrics, ratios = {}, {}
    for split in SPLITS:
        gt_loss, para_loss, pert_loss, rouge = _read_split(logs, split)
        ratios[split] = truth_ratio(para_loss, pert_loss, mean=mean)
        if split in ("retain", "forget"):
            prob = np.exp(-gt_loss)
        else:
            least = np.minimum(gt_loss, pert_loss.min(1))  # of one question: cancels in the ratio
            prob = option_prob(np.exp(least - gt_loss), np.exp(least[:, None] - pert_loss))
        kind = "forget" if split == "forget" else "utility"
        metrics[split] = {
            "prob": float(prob.mean()),
            "rouge": float(rouge.mean()),
            "truth_ratio": truth_ratio_score(ratios[split], kind=kind),
        }
    pvalue, statistic = None, None
    if retrained_logs is not None:
        _, para_loss, pert_loss, _ = _read_split(retrained_logs, "forget")
        retrained = truth_ratio(para_loss, pert_loss, mean=mean)
        pvalue, statistic = forget_quality(ratios["forget"], retrained)
    useful = [value for split in SPLITS if split != "forget" for value in metrics[split].values()]
    return TofuReport(metrics, model_utility(useful), ratios["forget"], pvalue, statistic)


def _read_split(logs: Mapping[str, Mapping[str, Any]], split: str) -> list[np.ndarray]:
    name = SPLITS[split]
    if name not in logs:
        raise ValueError(f"the logs have no {name} (the {split} set); there are {sorted(logs)}")
    found = []
    for field in _LOGGED:
        if field not in logs[name]:
            raise ValueError(f"{name} has no {field}; there are {sorted(logs[name])}")
        values = logs[name][field]
        if isinstance(values, Mapping):
            values = [values[key] for key in sorted(values, key=int)]
        found.append(np.asarray(values, np.float64))
    return found


def _paired(single: np.ndarray, several: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    single, several = np.asarray(single, np.float64), np.asarray(several, np.float64)
    if single.ndim != 1 or several.ndim != 2 or several.shape[0] != single.size:
        raise ValueError(
            f"need [N] for the right and [N, K] for the wrong answers, got {single.shape} and "
            f"{several.shape}"
        )
    return single, several
