import pytest

from jaxlab.runs import Claim, Run, record
from jaxlab.runs.figures import styled, subplots
from jaxlab.runs.record import main


@styled
def line():
    figure, axes = subplots()
    axes.plot([0, 1])
    return figure


def test_a_finished_run_is_kept(tmp_path, capsys):
    with Run(tmp_path / "run", {"size": 1}, preset="small") as run:
        run.figure("risk_by_step", line())
        run.write_claims([Claim("T1", "a | b", "0.5", "0.4", "pass", "nats", "on an analogue")])
        with pytest.raises(FileNotFoundError, match=r"not finished: .*summary\.json"):
            record(run.workdir, tmp_path / "kept")
        run.write_summary({"system": "toy", "command": "python toy.py", "wall_seconds": 75.2})
    main([str(tmp_path / "run"), str(tmp_path / "kept")])
    page = (tmp_path / "kept" / "README.md").read_text("utf-8")
    assert str(tmp_path / "kept" / "README.md") in capsys.readouterr().out
    assert "# toy, preset small" in page
    assert "| T1 | a \\| b<br>on an analogue | 0.5 nats | 0.4 nats | **pass** |" in page
    assert "![risk by step](risk_by_step.png)" in page
    assert "`python toy.py`" in page
    assert (tmp_path / "kept" / "risk_by_step.png").read_bytes().startswith(b"\x89PNG")
    stale = tmp_path / "kept" / "stale.png"
    stale.touch()
    record(tmp_path / "run", tmp_path / "kept")
    assert not stale.exists()
