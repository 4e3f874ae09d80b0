"""C2, C3 and C8: a plateau of guessing, then an abrupt jump, and what jumps together."""

import numpy as np

from jaxlab.runs import Claim, Run, holds, not_run, spread
from jaxlab.twohop import figures
from jaxlab.twohop.studies.main_runs import Outcome
from jaxlab.twohop.transition import first_crossing

_SHARE = 0.8  # of a recipe's seeds that must make the transition: four of five


def measure(config, run: Run, trained) -> list[Claim]:
    """Reads the training curves of all main runs."""
    outcomes = trained()
    run.figure("transition", figures.transition(outcomes, config.n_chains + config.n_onehop))
    if config.n_layers == 3:
        run.figure("role_attention", figures.role_attention(outcomes))
    recipes = {outcome.recipe.name: outcome.recipe for outcome in outcomes}
    groups = {name: [o for o in outcomes if o.recipe.name == name] for name in recipes}
    return [_transition(groups), _guessing(outcomes, config), _progression(outcomes, config)]


def made_transition(outcome: Outcome) -> bool:
    """C2 for one seed: the plateau, the jump within 250 steps, 99% in time and at the end."""
    report, accuracy = outcome.report, outcome.result.history["accuracy"]
    return bool(
        report.found
        and 0.12 <= report.plateau <= 0.35
        and report.end - report.onset <= 250
        and accuracy[-1] >= 0.99
    )


def enough(outcomes: list[Outcome]) -> bool:
    """Whether at least four fifths of the seeds made the transition."""
    return sum(map(made_transition, outcomes)) >= _SHARE * len(outcomes)


def found(outcomes: list[Outcome]) -> list[Outcome]:
    """Those whose transition can be looked at."""
    return [outcome for outcome in outcomes if outcome.report.found]


def _transition(groups: dict[str, list[Outcome]]) -> Claim:
    measured, missed = [], []
    for name, outcomes in groups.items():
        reached = [
            first_crossing(o.result.history["step"], o.result.history["accuracy"], 0.99)
            for o in outcomes
        ]
        good = [o for o in outcomes if made_transition(o)]
        steps = ", ".join("never" if np.isnan(step) else f"{step:.0f}" for step in reached)
        line = f"{name}: {len(good)} of {len(outcomes)} seeds, 99% at steps {steps}"
        if good:
            plateaus = [o.report.plateau for o in good]
            jumps = [o.report.end - o.report.onset for o in good]
            line += (
                f" (plateau {min(plateaus):.2f} to {max(plateaus):.2f}, jump within "
                f"{max(jumps):.0f} steps)"
            )
        measured.append(line)
        missed += [
            f"{o.name} did not: plateau {o.report.plateau:.2f}, jump from {o.report.onset:.0f} to "
            f"{o.report.end:.0f}, final accuracy {o.result.history['accuracy'][-1]:.3f}. "
            for o in outcomes
            if o not in good
        ]
    limits = ", ".join(
        f"{name} {outcomes[0].recipe.train.steps}" for name, outcomes in groups.items()
    )
    return Claim(
        "C2",
        "A slow stage of random guessing, then an abrupt jump to 100% accuracy",
        "plateau p = 0.25, jump at step 900 to 920 (dim 256)",
        "; ".join(measured),
        holds(all(map(enough, groups.values()))),
        detail=f"{''.join(missed)}Criterion, for at least 4 of 5 seeds of each recipe: mean p(end) "
        f"on the plateau within 0.12 to 0.35, 0.4 to 0.9 within 250 steps, final accuracy >= 0.99 "
        f"within the steps given ({limits}).",
    )


def _guessing(outcomes: list[Outcome], config) -> Claim:
    statement = "In the first stage the model guesses among the ends in the context"
    criterion = (
        "Criterion, at the evaluation nearest to 0.6 of the onset, for every seed that made the "
        "transition: other / target > 0.6, source and bridge < half of other, all ends together > "
        "0.5."
    )
    if config.n_chains < 2:
        return not_run("C3", statement, "One chain has no other ends.")
    seen = found(outcomes)
    if not seen:
        return nothing_found("C3", statement, criterion)
    rows = []
    for outcome in seen:
        history = outcome.result.history
        row = np.argmin(abs(history["step"] - 0.6 * outcome.report.onset))
        rows.append([history[name][row] for name in ("target_end", "other_end", "src_brg")])
    target, other, inner = np.array(rows).T
    ends = target + (config.n_chains - 1) * other
    return Claim(
        "C3",
        statement,
        "p(target) 0.25, p(other end) 0.17",
        f"p(target) {spread(target)}, p(other end) {spread(other)}, p(source or bridge) "
        f"{spread(inner)}, all ends {spread(ends)}",
        holds(np.all((other / target > 0.6) & (inner < 0.5 * other) & (ends > 0.5))),
        detail=criterion,
    )


def _progression(outcomes: list[Outcome], config) -> Claim:
    statement = "Attention follows a clear progression, and all three stages jump together"
    criterion = (
        "First evaluation with a weight >= 0.4 of layer 1 child to parent, layer 2 query to bridge "
        "and layer 3 query to end. Criterion: in this order, all within 200 steps, for every seed "
        "that made the transition."
    )
    if config.n_layers != 3:
        return three_layers_only("C8", statement)
    seen = found(outcomes)
    if not seen:
        return nothing_found("C8", statement, criterion)
    times = np.array([crossings(outcome) for outcome in seen])
    ordered = (np.diff(times, axis=1) >= 0).all(1) & (np.ptp(times, axis=1) <= 200)
    return Claim(
        "C8",
        statement,
        "all at step 850 to 920 (dim 256)",
        "; ".join(
            f"{o.name} " + "/".join(f"{t:.0f}" for t in row)
            for o, row in zip(seen, times, strict=True)
        ),
        holds(ordered.all()),
        unit="steps",
        detail=criterion,
    )


def crossings(outcome: Outcome) -> list[float]:
    """Steps at which the three edges of the sequential query first reach 0.4."""
    history = outcome.result.history
    return [
        first_crossing(history["step"], curve, 0.4) for curve in figures.circuit_attention(history)
    ]


def three_layers_only(name: str, statement: str) -> Claim:
    """The row of a claim about layers that this model does not have."""
    return not_run(name, statement, "The claim is about three layers (--n_layers=3).")


def nothing_found(name: str, statement: str, criterion: str) -> Claim:
    return Claim(name, statement, "", "no seed made the transition", "fail", detail=criterion)
