import dataclasses

import jax
import numpy as np
import pytest

from jaxlab import prm
from jaxlab.prm import experiment, figures
from jaxlab.prm.studies import measures, stages
from jaxlab.prm.studies.speculation import Found
from jaxlab.runs import Run
from tests.experiments import check_rows

TINY = dataclasses.replace(
    prm.AutoPRMConfig.preset("smoke"),
    d_model=16,
    n_heads=2,
    batch_rows=4,
    base_problems=20,
    base_steps=2,
    sft_problems=8,
    sft_steps=2,
    strong_problems=32,
    strong_steps=2,
    verifier_problems=8,
    verifier_candidates=2,
    verifier_steps=2,
    round_problems=8,
    k=2,
    rl_steps=2,
    test_problems=8,
    plan_problems=8,
    search_problems=2,
)
ROWS = ["A1", "A2", "A3", "A3'", "A4", "A4-tampering", "A5", "A6", "A7", "A8", "A9", "A10", "P1"]


KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("autoprm")
    return workdir, prm.run_autoprm(KEY, TINY, workdir, search=first_half)


def first_half(key, policy, reward, prompt, *, rows, capacity_tokens, max_new_tokens, end_id):
    """A search that goes on with the better half once, where memory asks for it."""
    start, extend, gather = policy
    cut = min(capacity_tokens // rows, max_new_tokens)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(rows))
    state, tokens, _ = extend(start(keys, prompt, len(prompt) + max_new_tokens), cut)
    drawn = rows * cut
    if cut < max_new_tokens:
        scores = reward(prompt, tokens, np.full(rows, cut, np.int32))
        kept = np.argsort(-scores)[: -(-rows // 2)]
        state = gather(state, kept, len(prompt) + max_new_tokens)
        _, rest, _ = extend(state, max_new_tokens - cut)
        tokens = np.concatenate([tokens[kept], rest], axis=1)
        drawn += rest.size
    lengths = np.where((tokens == end_id).any(1), (tokens == end_id).argmax(1), max_new_tokens)
    best = reward(prompt, tokens, lengths.astype(np.int32)).argmax()
    return Found(tokens[best], drawn)


def test_every_row_is_measured(finished):
    workdir, result = finished
    claims = list(result.claims)
    verdicts = check_rows(workdir, claims, ROWS)
    assert verdicts.pop("A8") in ("pass", "reported")  # that nothing is accepted shows nothing
    assert verdicts.pop("P1") == "not run"
    rows = {claim.id: claim for claim in claims}
    assert "rows, halved from 13 tokens on" in rows["A7"].measured
    assert "Strong base: " in rows["A6"].measured
    assert set(verdicts.values()) == {"reported"}  # the criteria are for the small preset
    assert len(list((workdir / "figures").glob("*.png"))) == 5
    assert "[after iteration]" in next(workdir.rglob("transcripts.txt")).read_text()


def test_the_runner_returns_accuracies_and_curves(finished):
    _, result = finished
    assert {"sft", "orm", "autoprm", "autoprm_no_cgd"} <= result.accuracy.keys()
    assert all(0 <= value <= 1 for value in result.accuracy.values())
    assert list(result.granularity) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert result.curves["autoprm"]["final"].shape == (1, TINY.rounds + 1)
    drawn = figures.accuracy_by_round(result.curves)  # all of them, as the notebook passes
    assert len(drawn.legends[0].get_texts()) == len(figures.ARMS)


def test_a_restart_computes_only_what_is_missing_and_ends_the_same(finished):
    workdir, result = finished
    config = dataclasses.replace(TINY, seed=int(jax.random.bits(KEY) >> 1))
    kept = (workdir / "results" / "base.npz").stat().st_mtime_ns
    for name in ("seed0_autoprm", "seed0_votes", "seed0_plans"):
        (workdir / "results" / f"{name}.npz").unlink()
    (workdir / "claims.json").unlink()
    with Run(workdir, config) as run:
        assert experiment.run(config, run, first_half) == list(result.claims)
    assert (workdir / "results" / "base.npz").stat().st_mtime_ns == kept


def test_presets():
    assert prm.AutoPRMConfig.preset("small").full_size
    assert not prm.AutoPRMConfig.preset("smoke").full_size
    with pytest.raises(ValueError, match=r"smoke, small, paper.*'huge'"):
        prm.AutoPRMConfig.preset("huge")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be >= 1, got 0"),
        ({"batch_rows": 6}, "multiple of 4, got 6"),
        ({"epsilon": 0.8}, "epsilon must be .* got 0.8"),
        ({"labels": "human"}, "labels must be one of subanswer, rollout, got 'human'"),
        ({"model": "folder"}, "are for --problems=texts"),
        ({"problems": "texts", "epsilon": 1.5}, r"epsilon must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


def test_area_under_curve_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, scores = rng.random(200) < 0.3, rng.integers(0, 9, 200) / 9
    expected = metrics.roc_auc_score(labels, scores)
    np.testing.assert_allclose(stages.area_under_curve(scores, labels), expected)
    assert stages.area_under_curve(scores, np.ones(200, bool)) == 0.5


def test_a_malformed_plan_ends_where_it_is_malformed():
    one, name, op, number, other = 17, 40, 14, 20, 41
    whole = [18, name, op, number, other, one, other, 5, number, 4, 6]
    assert measures.parse_plan(whole) == [[other, 5, number, 4], [name, op, number, other]]
    assert measures.parse_plan([name, *whole]) == []
    assert measures.parse_plan([6]) == []
