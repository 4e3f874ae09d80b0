import html.parser

import pytest

from jaxlab.runs import Claim, Run, report
from jaxlab.runs.figures import styled, subplots
from jaxlab.runs.report import main


@styled
def line():
    figure, axes = subplots()
    axes.plot([0, 1])
    return figure


@pytest.fixture
def workdir(tmp_path):
    with Run(tmp_path / "toy", {"size": 1}, preset="smoke") as run:
        run.figure("risk_by_step", line())
        run.write_claims(
            [
                Claim("T1", "risk < 1 & falls", "0.5", "0.4 ± 0.1, n=3", "pass", "nats"),
                Claim("T2", "<script>alert(1)</script>", "", "", "not run", "", "no peer"),
            ]
        )
        run.write_summary(
            {"system": "toy", "command": "python toy.py --size=1", "wall_seconds": 75.2}
        )
    return tmp_path / "toy"


class _Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone(workdir, tmp_path):
    page = report([workdir], tmp_path / "report.html").read_text("utf-8")
    links = _Links()
    links.feed(page)
    assert links.links
    assert all(link.startswith(("data:image/png", "#")) for link in links.links)
    assert "<script" not in page
    assert "@import" not in page


def test_the_page_says_what_was_measured(workdir, tmp_path):
    page = report([workdir], tmp_path / "r.html", crashed={"other": "Boom & <bang>"}).read_text()
    for text in (
        "1 of 2 claims hold",
        "1 crashed",
        "0.4 ± 0.1, n=3 nats",
        "risk &lt; 1 &amp; falls",
        "python toy.py --size=1",
        "1 min 15 s",
        "Boom &amp; &lt;bang&gt;",
        "risk by step",
    ):
        assert text in page


def test_an_unfinished_run_is_shown_as_such(tmp_path):
    Run(tmp_path / "half").close()
    page = report([tmp_path / "half"], tmp_path / "r.html").read_text()
    assert "it was not finished" in page


def test_a_finished_run_may_make_no_claims(tmp_path):
    with Run(tmp_path / "toy") as run:
        run.write_claims([])
        run.write_summary({"system": "toy", "command": "python toy.py", "wall_seconds": 1.0})
    page = report([tmp_path / "toy"], tmp_path / "r.html").read_text()
    assert "makes no claims" in page
    assert "it was not finished" not in page


def test_what_is_missing_is_told_where_the_claims_are(workdir, tmp_path):
    page = report([workdir], tmp_path / "r.html", incomplete={"toy": "no row <T3>"}).read_text()
    assert "1 incomplete" in page
    assert "no row &lt;T3&gt;" in page
    assert page.count('id="toy"') == 1
    assert "crashed" not in page


def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        report([tmp_path], tmp_path / "r.html")


def test_command(workdir, tmp_path, capsys):
    main([str(workdir), "-o", str(tmp_path / "page.html")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
