"""Settings of the AutoPRM experiments."""

import dataclasses

from jaxlab import lm
from jaxlab.prm.compact import EPSILONS, VOCAB_SIZE
from jaxlab.prm.toy import ToyConfig
from jaxlab.runs import option

ROW_TOKENS = 176
MAX_ROW_STEPS = 40
EPSILON_MIX = (0.1, 0.1, 0.1, 0.55, 0.15)
BASE_TOY = ToyConfig(min_ops=2, max_ops=5, max_value=19, max_operand=9)
TOY = ToyConfig(min_ops=2, max_ops=5, max_value=12, max_operand=6)


@dataclasses.dataclass(frozen=True)
class AutoPRMConfig:
    """Settings of the experiment on generated problems."""

    seed: int = option(0, "seed of problems, networks and samples")
    num_seeds: int = option(3, "runs of everything that follows the shared base")
    d_model: int = option(64, "width of the network")
    n_layers: int = option(2, "its layers")
    n_heads: int = option(4, "its heads")
    batch_rows: int = option(32, "packed rows of 176 tokens in a batch, a multiple of 4")
    base_problems: int = option(8000, "problems of each of the base's two runs")
    base_steps: int = option(500, "optimizer steps of each of the base's two runs")
    base_lr: float = option(5e-3, "their peak learning rate")
    sft_problems: int = option(500, "problems with gold solutions")
    sft_steps: int = option(240, "steps of supervised fine-tuning")
    sft_lr: float = option(4e-3, "its peak learning rate")
    verifier_problems: int = option(1500, "problems whose sub-answers label the verifier's data")
    verifier_candidates: int = option(4, "candidates for each of their subquestions")
    verifier_steps: int = option(600, "steps of the verifier")
    verifier_lr: float = option(3e-3, "its peak learning rate")
    rounds: int = option(3, "rounds of expert iteration")
    round_problems: int = option(256, "problems of a round")
    k: int = option(8, "candidates for each subquestion; also samples of votes")
    rl_steps: int = option(60, "steps of a round")
    rl_lr: float = option(2e-3, "its peak learning rate")
    epsilon: float = option(0.75, "granularity of the plans: 0, 0.25, 0.5, 0.75 or 1")
    sweep: tuple[float, ...] = option(EPSILONS, "granularities whose accuracies are compared")
    test_problems: int = option(512, "held-out problems for accuracies")
    plan_problems: int = option(256, "held-out problems for decompositions, at each granularity")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in ("int", int) and field.name != "seed" and value < 1:
                raise ValueError(f"{field.name} must be >= 1, got {value}")
        if self.batch_rows % 4:
            raise ValueError(f"batch_rows must be a multiple of 4, got {self.batch_rows}")
        for epsilon in (self.epsilon, *self.sweep):
            if epsilon not in EPSILONS:
                raise ValueError(f"epsilon must be 0, 0.25, 0.5, 0.75 or 1, got {epsilon}")

    @staticmethod
    def preset(name: str) -> "AutoPRMConfig":
        """The settings "smoke", "small" or "paper". Raises ValueError for another name."""
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        return PRESETS[name]

    @property
    def full_size(self) -> bool:
        """Whether the criteria, which are stated for the small preset, apply."""
        small = PRESETS["small"]
        sizes = (f.name for f in dataclasses.fields(self) if f.type in ("int", int))
        return self.sweep == EPSILONS and all(
            getattr(self, name) >= getattr(small, name) for name in sizes if name != "seed"
        )

    def network(self) -> lm.LMConfig:
        """The decoder that decomposes and answers."""
        return lm.LMConfig(
            vocab_size=VOCAB_SIZE,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_kv_heads=self.n_heads,
            head_dim=self.d_model // self.n_heads,
            d_ff=3 * self.d_model,
            max_seq_len=512,
            rope_theta=1000.0,
            gated=False,
            activation="gelu_tanh",
            tie_embeddings=True,
            token_shift=2,
        )


PRESETS = {
    "smoke": AutoPRMConfig(
        num_seeds=1,
        d_model=32,
        n_heads=2,
        batch_rows=8,
        base_problems=100,
        base_steps=6,
        sft_problems=20,
        sft_steps=4,
        verifier_problems=16,
        verifier_candidates=2,
        verifier_steps=4,
        rounds=1,
        round_problems=16,
        k=4,
        rl_steps=4,
        sweep=(0.0, 0.75),
        test_problems=16,
        plan_problems=16,
    ),
    "small": AutoPRMConfig(),
    "paper": AutoPRMConfig(num_seeds=5, test_problems=2048, round_problems=1024, rounds=5),
}
