import json

import pytest

from jaxlab.runs import (
    Claim,
    claim_order,
    count_verdicts,
    format_claims,
    holds,
    not_run,
    read_claims,
    write_claims,
)


def claim(id="A1", verdict="pass", **kwargs):
    return Claim(id, "it learns", "0.9", "0.91 ± 0.01, n=5", verdict, **kwargs)


def test_claims_survive_the_file(tmp_path):
    claims = [claim(), claim("A2", "not run", unit="nats", detail="needs a peer")]
    assert write_claims(tmp_path / "claims.json", claims) == claims
    assert read_claims(tmp_path / "claims.json") == claims
    rows = json.loads((tmp_path / "claims.json").read_text())
    assert list(rows[0]) == ["id", "statement", "paper", "measured", "verdict", "unit", "detail"]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"verdict": "passed"}, ValueError, "pass, fail, reported, not run"),
        ({"verdict": "not run"}, ValueError, "say why"),
        ({"id": ""}, ValueError, "empty"),
        ({"unit": 3}, TypeError, "unit must be a string"),
    ],
)
def test_a_malformed_claim_is_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        claim(**kwargs)


def test_an_id_may_occur_once(tmp_path):
    with pytest.raises(ValueError, match="twice: A1"):
        write_claims(tmp_path / "claims.json", [claim(), claim()])


def test_a_foreign_file_is_no_list_of_claims(tmp_path):
    (tmp_path / "claims.json").write_text('[{"id": "A1", "colour": "red"}]')
    with pytest.raises(ValueError, match="not a list of claims"):
        read_claims(tmp_path / "claims.json")


def test_verdict_of_an_array_condition():
    assert holds(3 > 2) == "pass"
    assert holds(float("nan") > 0) == "fail"


def test_a_row_that_was_not_run_says_why():
    assert not_run("A1", "it learns", "needs a peer", paper="2x", unit="s") == Claim(
        "A1", "it learns", "2x", "", "not run", "s", "needs a peer"
    )
    with pytest.raises(ValueError, match="say why"):
        not_run("A1", "it learns", "")


def test_rows_are_ordered_by_their_number_then_by_their_variant():
    order = ["C1", "C1-LM", "C2", "C9", "C10", "C10-own", "control-a", "control-b"]
    claims = sorted(map(claim, reversed(order)), key=claim_order)
    assert [row.id for row in claims] == order


def test_table_has_a_line_a_claim_and_fits_its_width():
    claims = [claim(), claim("A2", "fail", unit="s"), claim("A3", "reported")]
    lines = format_claims(claims, width=80).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["A1", "A2", "A3"]
    assert max(map(len, lines)) <= 80 + 20
    assert count_verdicts(claims) == {"pass": 1, "fail": 1, "reported": 1, "not run": 0}
