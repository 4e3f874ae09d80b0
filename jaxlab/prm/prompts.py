"""The two prompts of the one network: decompose a problem, and answer a subquestion."""

from collections.abc import Sequence

from jaxlab.prm.decomposition import Step


def qd_prompt(problem: str, epsilon: float) -> str:
    """Asks for the subquestions of `problem` at granularity `epsilon`."""
    return f"{problem}\n<EPS> {epsilon:.2f}\n<QD>"


def qa_prompt(
    problem: str,
    solved: Sequence[Step],
    question: str,
    next_question: str | None = None,
    cgd: bool = True,
) -> str:
    """Asks for the solution of `question` after the `solved` steps.

    Context-guided decoding shows the subquestion that comes next, as the suffix of a
    fill-in-the-middle prompt, or `<END>` where this one is the last (arXiv 2402.11452).

    Args:
      problem: the problem's text.
      solved: earlier steps, whose solutions are the context.
      question: the subquestion to answer.
      next_question: the one after it; None for the last.
      cgd: False leaves the suffix out.
    """
    suffix = f" <SUF> {next_question or '<END>'}" if cgd else ""
    context = "".join(f"\n{step.solution}" for step in solved)
    return f"<PRE> {question}{suffix} <MID> {problem}{context}\n"
