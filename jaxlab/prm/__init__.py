"""AutoPRM: question decomposition, process rewards, sequential reinforcement learning and search.

from jaxlab import prm

full = prm.toy_problem(np.random.default_rng(0))
coarse = prm.set_granularity(full, 0.5)
advantages = prm.group_advantages(rewards)  # [problems, answers]
loss = prm.ppo_loss(logp, old_logp, advantages.ravel(), mask).loss
"""

import importlib

from jaxlab.prm.advantages import gae, group_advantages, informative_groups, process_advantages
from jaxlab.prm.answers import extract_answer, is_correct
from jaxlab.prm.calculator import (
    calculate,
    calculator_annotations,
    check_calculator,
    complete_calculator,
    strip_calculator,
)
from jaxlab.prm.data import (
    StepwiseRow,
    load_asdiv,
    load_gsm8k,
    load_math,
    load_stepwise,
    load_strategyqa,
    load_strategyqa_decompositions,
    load_svamp,
    problem_set,
)
from jaxlab.prm.decomposition import (
    Decomposition,
    Step,
    contributing_steps,
    granularity,
    parse_socratic,
    set_granularity,
)
from jaxlab.prm.math_notation import normalize_math
from jaxlab.prm.numbers import format_number, numbers_in, parse_number
from jaxlab.prm.policy_losses import PolicyLoss, kl_estimate, ppo_loss, value_loss
from jaxlab.prm.process_reward import aggregate_steps, as_reward_fn, prm_loss
from jaxlab.prm.prompts import qa_prompt, qd_prompt
from jaxlab.prm.search import Beam, beam_search, guided_logits
from jaxlab.prm.selection import Rerank, best_of_n, expert_select, majority_vote, rerank
from jaxlab.prm.step_labels import (
    first_error,
    first_error_f1,
    mc_step_labels,
    propagate_first_error,
)
from jaxlab.prm.steps import (
    broadcast_steps,
    gather_steps,
    shape_rewards,
    step_ends_from_tokens,
)
from jaxlab.prm.toy import ToyConfig, to_socratic, toy_problem
from jaxlab.runs import Claim

# The runner brings matplotlib and the language model: read when asked for (PEP 562).
_EXPERIMENT = ("AutoPRMConfig", "AutoPRMResult", "run_autoprm")

__all__ = [
    "AutoPRMConfig",
    "AutoPRMResult",
    "Beam",
    "Claim",
    "Decomposition",
    "PolicyLoss",
    "Rerank",
    "Step",
    "StepwiseRow",
    "ToyConfig",
    "aggregate_steps",
    "as_reward_fn",
    "beam_search",
    "best_of_n",
    "broadcast_steps",
    "calculate",
    "calculator_annotations",
    "check_calculator",
    "complete_calculator",
    "contributing_steps",
    "expert_select",
    "extract_answer",
    "first_error",
    "first_error_f1",
    "format_number",
    "gae",
    "gather_steps",
    "granularity",
    "group_advantages",
    "guided_logits",
    "informative_groups",
    "is_correct",
    "kl_estimate",
    "load_asdiv",
    "load_gsm8k",
    "load_math",
    "load_stepwise",
    "load_strategyqa",
    "load_strategyqa_decompositions",
    "load_svamp",
    "majority_vote",
    "mc_step_labels",
    "normalize_math",
    "numbers_in",
    "parse_number",
    "parse_socratic",
    "ppo_loss",
    "prm_loss",
    "problem_set",
    "process_advantages",
    "propagate_first_error",
    "qa_prompt",
    "qd_prompt",
    "rerank",
    "run_autoprm",
    "set_granularity",
    "shape_rewards",
    "step_ends_from_tokens",
    "strip_calculator",
    "to_socratic",
    "toy_problem",
    "value_loss",
]


def __getattr__(name: str):
    if name not in _EXPERIMENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("jaxlab.prm.experiment"), name)
