import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import lm, twohop
from jaxlab.twohop.language import TEXT_ROLES
from tests.twohop import tiny_language_model

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_language_model.write(folder)
    cfg, params = lm.load_hf(folder)
    return cfg, params, lm.load_tokenizer(folder)


@pytest.fixture(scope="module")
def prompts():
    return twohop.make_prompts(7, 3, 6)


def test_roles_are_where_the_entities_stand(model, prompts):
    tokenizer = model[2]
    encoded = twohop.encode_prompts(tokenizer, prompts)
    for row, prompt in enumerate(prompts):
        source, bridge, end = prompt.chains[prompt.target]
        first_hop = next(s for s in prompt.question.split(". ") if source in s)
        text = {
            role: tokenizer.decode(encoded.tokens[row][encoded.roles[row, number]])
            for number, role in enumerate(TEXT_ROLES)
        }
        wanted = {"src": source, "brg1": bridge, "brg2": bridge, "end": end}
        for role, word in wanted.items():
            assert re.sub(r"\W", "", text[role]) == word
        places = {role: np.flatnonzero(encoded.roles[row, n]) for n, role in enumerate(TEXT_ROLES)}
        assert places["src"][-1] < places["brg1"][0] < places["brg2"][0] < places["end"][0]
        assert bridge in first_hop
        for other in (c for k, c in enumerate(prompt.chains) if k != prompt.target):
            assert other[2] in re.sub(r"\W", " ", text["other end"])


def test_first_tokens_are_those_of_the_answers(model, prompts):
    tokenizer = model[2]
    encoded = twohop.encode_prompts(tokenizer, prompts)
    for row, prompt in enumerate(prompts):
        assert encoded.target_ids[row] == tokenizer.encode(prompt.answer)[0]
        got = [tokenizer.encode(answer)[0] for answer in prompt.other_answers]
        np.testing.assert_array_equal(encoded.other_ids[row], got)
    assert encoded.mask.sum(1).min() > 0
    assert encoded.tokens.shape[1] % 16 == 0
    assert encoded.other_ids.shape == (6, 2)
    assert twohop.encode_prompts(tokenizer, twohop.make_prompts(0, 1, 2)).other_ids.shape == (2, 0)


def test_collisions_are_counted(model, prompts):
    encoded = twohop.encode_prompts(model[2], prompts)
    others = encoded.other_ids.copy()
    distinct = encoded._replace(target_ids=np.zeros(6, int), other_ids=np.array([[1, 2]] * 6))
    assert twohop.count_collisions(distinct) == 0
    others[:2, 0] = encoded.target_ids[:2]
    others[2, 0] = others[2, 1]
    assert twohop.count_collisions(encoded._replace(other_ids=others)) >= 3


def test_scores_do_not_depend_on_batches(model, prompts):
    cfg, params, tokenizer = model
    encoded = twohop.encode_prompts(tokenizer, prompts)
    whole = twohop.next_token_logits(params, cfg, encoded, batch_size=6)
    np.testing.assert_allclose(
        twohop.next_token_logits(params, cfg, encoded, batch_size=4), whole, atol=1e-4
    )
    alone = lm.forward(params, cfg, jnp.array([lm.encode_prompt(tokenizer, prompts[0].question)]))
    np.testing.assert_allclose(whole[0], alone.logits[0, -1], atol=1e-4)


def test_a_model_of_one_chain_does_not_tell_two_apart(model):
    cfg, params, tokenizer = model
    one, two = (
        twohop.score_prompts(
            params, cfg, twohop.encode_prompts(tokenizer, twohop.make_prompts(k, k, 60))
        )
        for k in (1, 2)
    )
    assert one.p_target > 0.2
    assert one.accuracy > 0.5
    assert two.p_target < 0.5 * one.p_target
    assert abs(two.p_target - two.p_other) < 0.05


def test_attention_of_the_last_position(model, prompts):
    cfg, params, tokenizer = model
    encoded = twohop.encode_prompts(tokenizer, prompts)
    got = twohop.query_attention(params, cfg, encoded, batch_size=4)
    assert got.shape == (2, 2, 8)
    out = lm.forward(
        params, cfg, encoded.tokens, attention_mask=encoded.mask, output_attentions=True
    )
    weights = np.asarray(out.attentions)[:, :, :, -1]
    want = np.mean(
        [[weights[:, b, :, encoded.roles[b, r]].sum(0) for r in range(8)] for b in range(6)], axis=0
    )
    np.testing.assert_allclose(got, np.moveaxis(want, 0, -1), rtol=1e-4)


def test_fine_tuning_learns_answers_only_and_resumes(model):
    cfg, params, tokenizer = model
    prompts = twohop.make_prompts(3, 2, 8)
    rows = twohop.answer_rows(tokenizer, prompts)
    for row, prompt in enumerate(prompts):
        learned = tokenizer.decode(rows["tokens"][row][rows["loss_mask"][row]])
        assert learned == prompt.answer
    steps, lr = 16, 1e-2
    start = twohop.init_finetuning(jax.random.key(0), params, steps=steps, rank=4, lr=lr)
    seen = []

    def keep(state, metrics):
        seen.append((jax.device_get(state), float(metrics["loss"])))

    lora = twohop.finetune(start, params, cfg, lambda step: rows, steps=steps, lr=lr, on_step=keep)
    assert seen[-1][1] < 0.7 * seen[0][1]
    encoded = twohop.encode_prompts(tokenizer, prompts)
    before = twohop.score_prompts(params, cfg, encoded)
    after = twohop.score_prompts(params, cfg, encoded, lora=lora)
    assert after.p_target > 2 * before.p_target
    again = twohop.finetune(seen[4][0], params, cfg, lambda step: rows, steps=steps, lr=lr)
    for got, want in zip(jax.tree.leaves(again), jax.tree.leaves(lora), strict=True):
        np.testing.assert_array_equal(got, want)


def test_fine_tuning_decays_the_adapter(model):
    """With B = 0 the gradient of A is 0, so that the first step does nothing else."""
    cfg, params, tokenizer = model
    rows = twohop.answer_rows(tokenizer, twohop.make_prompts(3, 2, 2))
    half = jax.tree.map(lambda x: x.astype(jnp.float16), params)
    lr = 0.1
    start = twohop.init_finetuning(jax.random.key(0), half, steps=1, rank=2, lr=lr)
    before = jax.device_get(start.params.layers["attn"])
    lora = twohop.finetune(start, half, cfg, lambda step: rows, steps=1, lr=lr)
    for name, adapter in lora.layers["attn"].items():
        np.testing.assert_allclose(adapter["a"], before[name]["a"] * (1 - 0.01 * lr), rtol=1e-6)
        assert np.isfinite(adapter["b"]).all()


def test_prompts_that_the_model_cannot_read(model, prompts):
    cfg, params, tokenizer = model
    encoded = twohop.encode_prompts(tokenizer, prompts)
    foreign = encoded._replace(tokens=encoded.tokens + cfg.vocab_size)
    for read in (twohop.next_token_logits, twohop.query_attention):
        with pytest.raises(ValueError, match="was another tokenizer used"):
            read(params, cfg, foreign)


def test_prompt_files(model):
    cfg, params, tokenizer = model
    prompts = twohop.make_prompts(0, 2, 4)
    ids = [tokenizer.encode(prompt.answer)[0] for prompt in prompts]
    filed = [
        twohop.TokenPrompt(p.question, p.answer, i, (5,)) for p, i in zip(prompts, ids, strict=True)
    ]
    encoded = twohop.encode_prompts(tokenizer, filed)
    np.testing.assert_array_equal(encoded.target_ids, ids)
    np.testing.assert_array_equal(encoded.other_ids, [[5]] * 4)
    with pytest.raises(ValueError, match="use make_prompts"):
        twohop.query_attention(params, cfg, encoded)
    foreign = [prompt._replace(target_id=prompt.target_id + 1) for prompt in filed]
    with pytest.raises(ValueError, match="fit 0% of the answers"):
        twohop.encode_prompts(tokenizer, foreign)


def test_encoding_refuses(model):
    with pytest.raises(ValueError, match="there are no prompts"):
        twohop.encode_prompts(model[2], [])
    mixed = [*twohop.make_prompts(0, 2, 1), *twohop.make_prompts(0, 3, 1)]
    with pytest.raises(ValueError, match="one number of chains"):
        twohop.encode_prompts(model[2], mixed)
