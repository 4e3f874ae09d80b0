import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import twohop


@pytest.mark.parametrize("n_chains", [1, 2, 5])
def test_prompts_are_well_formed(n_chains):
    prompts = twohop.make_prompts(0, n_chains, 200)
    assert prompts == twohop.make_prompts(0, n_chains, 200)
    assert len({prompt.topic for prompt in prompts}) == 6
    for prompt in prompts:
        sentences = prompt.question.split(". ")
        assert len(sentences) == 2 * n_chains + 1
        assert not prompt.question.endswith((" ", "."))
        entities = [name for chain in prompt.chains for name in chain]
        assert len(set(entities)) == 3 * n_chains
        words = [word.rstrip(".,") for word in prompt.question.split()]
        source, bridge, end = prompt.chains[prompt.target]
        counts = {name: words.count(name) for name in entities}
        for number, chain in enumerate(prompt.chains):
            assert counts[chain[0]] == 1 + (number == prompt.target)
            assert counts[chain[1]] == 2
            assert counts[chain[2]] == 1
        assert source in sentences[-1].split()
        assert bridge not in sentences[-1].split()
        assert prompt.answer == f" {end}"
        others = [c[2] for k, c in enumerate(prompt.chains) if k != prompt.target]
        assert prompt.other_answers == tuple(f" {name}" for name in others)
        first = {
            chain: next(i for i, s in enumerate(sentences) if chain[0] in s.split())
            for chain in prompt.chains
        }
        for chain, place in first.items():
            assert place < next(i for i, s in enumerate(sentences) if chain[2] in s.split())
        hash(prompt)


@pytest.mark.parametrize("n_chains", [0, 6])
def test_prompts_refuse(n_chains):
    with pytest.raises(ValueError, match=f"between 1 and 5, got {n_chains}"):
        twohop.make_prompts(0, n_chains, 1)
    with pytest.raises(ValueError, match="n_prompts must be >= 1"):
        twohop.make_prompts(0, 1, 0)


def entry(n_chains):
    return {
        "question": "q",
        "answer": " a",
        "query_names": [1, 2, 3],
        "non_query_names": list(range(10, 10 + 3 * (n_chains - 1))),
    }


def test_prompt_file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"1": [entry(1)], "3": [entry(3)]}))
    loaded = twohop.load_prompts_json(path)
    assert loaded[1][0] == ("q", " a", 3, ())
    assert loaded[3][0].other_ids == (12, 15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, "K=2, entry 0 has no field answer"),
        ({"query_names": [1]}, "K=2, entry 0: query_names must hold 3 ids, got 1"),
        ({"non_query_names": [1, 2]}, "non_query_names must hold 3 ids, got 2"),
        ({"query_names": 3}, "K=2, entry 0: query_names must be a list of ids, got 3"),
        ({"non_query_names": ["a"]}, "non_query_names must be a list of ids"),
        ({"question": 7}, "question must be a text, got 7"),
    ],
)
def test_prompt_file_faults(tmp_path, change, message):
    broken = {k: v for k, v in (entry(2) | change).items() if v is not None}
    (tmp_path / "p.json").write_text(json.dumps({"2": [broken]}))
    with pytest.raises(ValueError, match=message):
        twohop.load_prompts_json(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not JSON"),
        ("[]", "must hold an object"),
        ('{"two": []}', "key 'two'"),
        ('{"2": null}', "K=2 must be a list of entries, got None"),
        ('{"2": [null]}', "K=2, entry 0 must be an object, got None"),
    ],
)
def test_a_file_of_another_kind(tmp_path, text, message):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        twohop.load_prompts_json(tmp_path / "p.json")


def test_scores_against_numpy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 20)).astype(np.float32)
    target, others = rng.integers(0, 10, 50), rng.integers(10, 20, (50, 3))
    got = twohop.score_next_token(jnp.asarray(logits, jnp.bfloat16), target, others)
    rounded = np.asarray(jnp.asarray(logits, jnp.bfloat16), np.float64)
    probs = np.exp(rounded) / np.exp(rounded).sum(1, keepdims=True)
    p, q = probs[np.arange(50), target], probs[np.arange(50)[:, None], others]
    want = [
        p.mean(),
        q.mean(),
        p.std(ddof=1) / 50**0.5,
        q.mean(1).std(ddof=1) / 50**0.5,
        (probs.argmax(1) == target).mean(),
        (p[:, None] > q).all(1).mean(),
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for nobody in (np.zeros((50, 0), int), [()] * 50):
        alone = twohop.score_next_token(logits, target, nobody)
        assert np.isnan([alone.p_other, alone.se_other]).all()
        assert alone.accuracy_ends == 1
    with pytest.raises(ValueError, match=r"\(50, 20\), \(49,\) and \(50, 3\)"):
        twohop.score_next_token(logits, target[:49], others)
