"""The settings of an unlearning method, and the named combinations of the literature."""

import dataclasses
from typing import Any

from jaxlab.checks import check_choice
from jaxlab.unlearn.static_checks import require_not_negative, require_positive

METHODS = ("ga", "npo", "simnpo", "idk", "dpo", "kto", "wga", "none")
RETAINS = ("none", "nll", "kl")
REDUCTIONS = ("token", "sequence", "length")

_NEEDS_IDK = ("idk", "dpo", "kto")
_NEEDS_REFERENCE = ("npo", "dpo", "kto")
_SUFFIXES = {"": "none", "+rt": "nll", "+kl": "kl"}
_NAMES = (
    "ga",
    "ga+rt",
    "ga+kl",
    "idk+rt",
    "dpo",
    "dpo+rt",
    "dpo+kl",
    "kto",
    "kto+rt",
    "npo",
    "npo+rt",
    "npo+kl",
    "simnpo",
    "simnpo+rt",
)
# Published settings for TOFU forget05: arXiv 2410.07163 and its code.
_DEFAULTS = {
    "simnpo": {"beta": 2.5},
    "simnpo+rt": {"beta": 2.5, "forget_coeff": 0.1375},
}


@dataclasses.dataclass(frozen=True)
class UnlearnConfig:
    """One objective: `forget_coeff * forget loss + retain_coeff * retain loss`.

    The numbers may be traced, so that a sweep over them is one program; names are static.

    Attributes:
      method: the forget loss. `ga`, `npo`, `simnpo`, `idk` (likelihood of refusals), `dpo`, `kto`,
        `wga` (see the functions of these names), or `none`.
      retain: `none`; `nll`, likelihood of the retain rows; `kl`, divergence from the reference
        model on them.
      forget_coeff, retain_coeff: weights of the two terms.
      beta: inverse temperature of npo, simnpo, dpo and kto, exponent of wga.
      gamma: margin of simnpo.
      reduction: how ga, idk and the retain likelihood average over a batch. `token`: sum of
        log-probabilities over number of tokens; `sequence`: mean over rows of the sum;
        `length`: mean over rows of the mean.

    Raises:
      ValueError: an unknown name, beta <= 0 or gamma < 0.
    """

    method: str = "npo"
    retain: str = "none"
    forget_coeff: float = 1.0
    retain_coeff: float = 1.0
    beta: float = 0.1
    gamma: float = 0.0
    reduction: str = "token"

    def __post_init__(self):
        check_choice("method", self.method, METHODS)
        check_choice("retain", self.retain, RETAINS)
        check_choice("reduction", self.reduction, REDUCTIONS)
        require_positive("beta", self.beta)
        require_not_negative("gamma", self.gamma)

    @property
    def needs_idk(self) -> bool:
        """Whether the forget loss compares with refusals."""
        return self.method in _NEEDS_IDK

    @property
    def needs_reference(self) -> bool:
        """Whether the forget loss compares with the reference model."""
        return self.method in _NEEDS_REFERENCE


def method_config(name: str, **overrides: Any) -> UnlearnConfig:
    """The settings of a named method: `npo+rt`, `ga+kl`, `simnpo`, ...

    `+rt` adds the likelihood of retain rows, `+kl` the divergence from the reference there.

    Args:
      name: one of the names that the error lists.
      **overrides: fields of `UnlearnConfig`.

    Raises:
      ValueError: another name, or a field that is not valid.
    """
    check_choice("method", name, _NAMES)
    method, plus, retain = name.partition("+")
    fields = {"method": method, "retain": _SUFFIXES[plus + retain]} | _DEFAULTS.get(name, {})
    return UnlearnConfig(**(fields | overrides))
