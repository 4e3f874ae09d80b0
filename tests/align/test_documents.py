import jax
import numpy as np

from jaxlab import align, lm
from jaxlab.align import documents


def sample(count=400, length=130, **changes):
    options = {"sigma": 1.0} | changes
    return align.sample_documents(np.random.default_rng(0), count, length, **options)


def test_documents_follow_the_grammar():
    tokens = sample()
    assert tokens.shape == (400, 130)
    assert tokens.dtype == np.int32
    assert (tokens[:, 0] == documents.BOS).all()
    topic = tokens[:, 1] - documents.FIRST_TOPIC
    assert set(topic) == set(range(8))
    body = tokens[:, 2:].reshape(400, -1, 4)
    assert (body[:, :, 0] == documents.FIRST_NOUN + topic[:, None]).all()
    assert set(body[:, :, 1].ravel()) == {documents.FIRST_VERB + i for i in range(4)}
    assert body[:, :, 2:].min() >= documents.FIRST_LEVEL
    assert tokens.max() < documents.VOCAB_SIZE == 40
    assert (sample(topic=3)[:, 1] == documents.FIRST_TOPIC + 3).all()


def test_levels_scatter_around_the_quality_of_their_document():
    for sigma in (0.4, 1.0):
        values = (sample(sigma=sigma)[:, 2:].reshape(400, -1, 4)[:, :, 2:] - 31) / 2
        values = values.reshape(400, -1)
        means = values.mean(axis=1)
        assert abs(means.mean()) < 0.15
        assert abs(means.std() - 1) < 0.15
        assert abs(values.std(axis=1).mean() - sigma) < 0.15


def test_gold_reward_is_the_mean_value_so_far():
    level = documents.FIRST_LEVEL
    responses = np.array([[11, 19, level + 8, level + 16], [11, 19, level, level + 16]])
    prompt = align.document_prompt(0)
    for lengths, expected in (([4, 4], [2, 0]), ([3, 3], [0, -4]), ([2, 1], [0, 0])):
        scores = align.gold_reward(prompt, responses, np.array(lengths))
        np.testing.assert_allclose(scores, expected)


def test_the_model_has_the_size_it_says():
    cfg = align.document_model()
    assert cfg.vocab_size == documents.VOCAB_SIZE
    params = lm.init_params(jax.random.key(0), cfg)
    assert lm.count_params(params) == 76_608
