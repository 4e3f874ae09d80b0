"""What the experiments of several rooms are asked alike."""

from jaxlab.runs import Claim, Run, read_claims


def check_rows(workdir, claims: list[Claim], rows: list[str]) -> dict[str, str]:
    """A finished run has these rows, and its file holds the same claims: the verdict of each."""
    assert [claim.id for claim in claims] == rows
    assert read_claims(workdir / "claims.json") == claims
    return {claim.id: claim.verdict for claim in claims}


def check_restart(experiment, config, workdir, claims, *, removed: list[str], kept: str) -> None:
    """A finished run without some results computes these, leaves the others, and ends the same.

    Args:
      experiment: the room's module.
      config, workdir, claims: of the finished run.
      removed: names of results to take away; the claims go with them.
      kept: name of a result that must not be computed again.
    """
    results = workdir / "results"
    written = (results / f"{kept}.npz").stat().st_mtime_ns
    for name in removed:
        (results / f"{name}.npz").unlink()
    (workdir / "claims.json").unlink()
    with Run(workdir, config) as run:
        assert experiment.run(config, run) == claims
    assert (results / f"{kept}.npz").stat().st_mtime_ns == written
