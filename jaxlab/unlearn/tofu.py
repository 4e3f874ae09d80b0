"""The data of TOFU that comes with the package: 200 invented authors, 20 questions each.

MIT licence, (c) 2024 CMU Locus Lab; the notice lies beside the files in `tofu_data/`. Author i owns
rows 20 i to 20 i + 19 of `full`. All other splits are slices: forgetPP is the last PP percent.

Source: Maini et al., "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv 2401.06121.
"""

from importlib import resources

from jaxlab.checks import check_choice
from jaxlab.unlearn.data import QA, load_qa
from jaxlab.user_files import read_json

NAMES = (
    "full",
    "forget10_perturbed",
    "retain_perturbed",
    "real_authors_perturbed",
    "world_facts_perturbed",
)
LOGS = ("full", "retain90", "retain95", "retain99")

_FOLDER = resources.files("jaxlab.unlearn") / "tofu_data"


def load_tofu(name: str) -> list[QA]:
    """One of the bundled sets of questions.

    Args:
      name: `full` (4000 rows); `forget10_perturbed` (its last 400, with a paraphrase and five
        wrong answers each), `retain_perturbed` (its first 400, likewise); `real_authors_perturbed`
        (100) and `world_facts_perturbed` (117), with three wrong answers.

    Raises:
      ValueError: another name.
    """
    check_choice("name", name, NAMES)
    with resources.as_file(_FOLDER / f"{name}.json") as path:
        return load_qa(path)


def load_refusals() -> list[str]:
    """A hundred ways to say "I don't know"."""
    return (_FOLDER / "idontknow.jsonl").read_text("utf-8").splitlines()


def load_tofu_logs(name: str) -> dict:
    """The authors' evaluation of a Llama-2-7b, for `tofu_report`.

    Args:
      name: what it was trained on: `full`, or `retain90`, `retain95`, `retain99` percent.

    Raises:
      ValueError: another name.
    """
    check_choice("name", name, LOGS)
    with resources.as_file(_FOLDER / f"eval_log_llama2-7b_{name}.json") as path:
        return read_json(path)
