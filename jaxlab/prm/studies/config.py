"""Settings of the AutoPRM experiments."""

import dataclasses

from jaxlab import lm
from jaxlab.checks import check_choice
from jaxlab.prm.compact import EPSILONS, VOCAB_SIZE
from jaxlab.prm.toy import ToyConfig
from jaxlab.runs import check_choices, check_least, option

ROW_TOKENS = 176
MAX_ROW_STEPS = 40
EPSILON_MIX = (0.1, 0.1, 0.1, 0.55, 0.15)
BASE_TOY = ToyConfig(min_ops=2, max_ops=5, max_value=19, max_operand=9)
TOY = ToyConfig(min_ops=2, max_ops=5, max_value=12, max_operand=6)
COMPARE_TOY = ToyConfig(min_ops=2, max_ops=4, max_value=12, max_operand=6, compare=True)
BRANCH_TOY = ToyConfig(
    min_ops=2, max_ops=3, max_value=12, max_operand=6, distractor_prob=0.75, descendants=True
)


@dataclasses.dataclass(frozen=True)
class AutoPRMConfig:
    """Settings of the experiment on generated problems."""

    problems: str = option(
        "generated",
        "what is solved: generated problems by a network trained from scratch, or texts by --model",
        choices=("generated", "texts"),
    )
    model: str = option("", "texts: Hugging Face folder of a causal language model")
    data: str = option(
        "",
        "texts: training problems, GSM8K-style Socratic .jsonl, or StrategyQA's .json (also .gz)",
    )
    test_data: str = option(
        "",
        "texts: test problems of this form; empty: GSM8K's test set, or a tenth of StrategyQA's",
    )
    row_tokens: int = option(768, "texts: most tokens of a prompt with its answer, longer ones go")
    step_tokens: int = option(128, "texts: most tokens of a sub-solution and of a plan")
    sample_rows: int = option(64, "texts: rows that are sampled at a time")
    seed: int = option(0, "seed of problems, networks and samples")
    num_seeds: int = option(3, "runs of everything that follows the shared base")
    d_model: int = option(64, "width of the network")
    n_layers: int = option(2, "its layers")
    n_heads: int = option(4, "its heads")
    batch_rows: int = option(32, "packed rows of 176 tokens in a batch, a multiple of 4")
    base_problems: int = option(8000, "problems of each of the base's two runs")
    base_steps: int = option(500, "optimizer steps of each of the base's two runs")
    base_lr: float = option(5e-3, "their peak learning rate")
    sft_problems: int = option(300, "problems with gold solutions")
    sft_steps: int = option(140, "steps of supervised fine-tuning")
    sft_lr: float = option(4e-3, "its peak learning rate")
    strong_problems: int = option(1500, "gold problems of the strong base, beside sft_problems")
    strong_steps: int = option(260, "its steps of supervised fine-tuning")
    verifier_problems: int = option(768, "problems whose sub-answers label the verifier's data")
    verifier_candidates: int = option(4, "candidates for each of their subquestions")
    labels: str = option(
        "subanswer",
        "of the verifier's data: exact sub-answers, or rollouts that know final answers alone",
        choices=("subanswer", "rollout"),
    )
    label_rollouts: int = option(2, "rollouts from each candidate where labels are rollouts")
    verifier_steps: int = option(240, "steps of the verifier")
    verifier_lr: float = option(3e-3, "its peak learning rate")
    rounds: int = option(3, "rounds of expert iteration")
    round_problems: int = option(256, "problems of a round")
    k: int = option(8, "candidates for each subquestion; also samples of votes")
    rl_steps: int = option(60, "steps of a round")
    rl_lr: float = option(2e-3, "its peak learning rate")
    grpo_lr: float = option(5e-4, "that of GRPO's round")
    epsilon: float = option(0.75, "granularity of the plans: 0, 0.25, 0.5, 0.75 or 1")
    sweep: tuple[float, ...] = option(EPSILONS, "granularities whose accuracies are compared")
    test_problems: int = option(512, "held-out problems for accuracies")
    plan_problems: int = option(256, "held-out problems for decompositions, at each granularity")
    search_problems: int = option(96, "of these, for searches that stop rows early")

    def __post_init__(self):
        check_choices(self)
        check_least(self, dict.fromkeys(self._sizes(), 1))
        if self.batch_rows % 4:
            raise ValueError(f"batch_rows must be a multiple of 4, got {self.batch_rows}")
        if self.problems == "texts":
            if not 0 <= self.epsilon <= 1:
                raise ValueError(f"epsilon must lie in [0, 1], got {self.epsilon}")
            return
        if self.model or self.data or self.test_data:
            raise ValueError("model, data and test_data are for --problems=texts (--preset=paper)")
        for epsilon in (self.epsilon, *self.sweep):
            if epsilon not in EPSILONS:
                raise ValueError(f"epsilon must be 0, 0.25, 0.5, 0.75 or 1, got {epsilon}")

    @staticmethod
    def preset(name: str) -> "AutoPRMConfig":
        """The settings "smoke", "small" or "paper". Raises ValueError for another name."""
        check_choice("preset", name, PRESETS)
        return PRESETS[name]

    @property
    def full_size(self) -> bool:
        """Whether the criteria, which are stated for the small preset, apply."""
        small = PRESETS["small"]
        return self.sweep == EPSILONS and all(
            getattr(self, name) >= getattr(small, name) for name in self._sizes()
        )

    @classmethod
    def _sizes(cls) -> list[str]:
        """The fields that count something."""
        fields = dataclasses.fields(cls)
        return [f.name for f in fields if f.type in ("int", int) and f.name != "seed"]

    def strong(self) -> "AutoPRMConfig":
        """The same with the fine-tuning of the strong base."""
        return dataclasses.replace(
            self, sft_problems=self.strong_problems, sft_steps=self.strong_steps
        )

    def network(self, width: int | None = None) -> lm.LMConfig:
        """The decoder that decomposes and answers, or one of another width."""
        width = width or self.d_model
        return lm.LMConfig(
            vocab_size=VOCAB_SIZE,
            d_model=width,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_kv_heads=self.n_heads,
            head_dim=2 * max(1, width // (2 * self.n_heads)),
            d_ff=3 * width,
            max_seq_len=512,
            rope_theta=1000.0,
            gated=False,
            activation="gelu_tanh",
            tie_embeddings=True,
            token_shift=2,
        )


PRESETS = {
    # Equal sizes and learning rates: each compiled program serves several stages, as do the 3
    # candidates that 12 samples a problem come to at granularity 0.75.
    "smoke": AutoPRMConfig(
        num_seeds=1,
        d_model=32,
        n_layers=1,
        n_heads=2,
        batch_rows=8,
        base_problems=60,
        base_steps=4,
        base_lr=3e-3,
        sft_problems=16,
        sft_steps=4,
        sft_lr=3e-3,
        strong_problems=32,
        strong_steps=4,
        verifier_problems=16,
        verifier_candidates=3,
        verifier_steps=4,
        rounds=1,
        round_problems=16,
        k=3,
        rl_steps=4,
        rl_lr=3e-3,
        sweep=(0.75,),
        test_problems=16,
        plan_problems=16,
        search_problems=4,
    ),
    "small": AutoPRMConfig(),
    # Rates, batch, rounds and granularity are the paper's; epochs and candidates are not known.
    "paper": AutoPRMConfig(
        problems="texts",
        num_seeds=1,
        sft_problems=7473,
        sft_steps=900,
        sft_lr=1e-4,
        verifier_problems=2000,
        verifier_steps=500,
        verifier_lr=1e-5,
        rounds=5,
        round_problems=1000,
        rl_steps=100,
        rl_lr=5e-5,
        epsilon=0.8,
        test_problems=1319,
    ),
}
