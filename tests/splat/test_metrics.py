import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from jaxlab import splat


def test_is_sklearns_with_a_class_that_does_not_occur():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 5)).astype(np.float32)
    labels = rng.choice([0, 1, 2, 4], 50)
    got = splat.classification_metrics(logits, labels, 5)
    predicted = logits.argmax(1)
    np.testing.assert_allclose(got.oa, (predicted == labels).mean(), rtol=1e-6)
    kept = np.where(predicted == 3, -1, predicted)  # sklearn warns of classes only predicted
    recall = [np.mean(kept[labels == c] == c) for c in (0, 1, 2, 4)]
    np.testing.assert_allclose(got.macc, np.mean(recall), rtol=1e-6)
    np.testing.assert_array_equal(
        got.confusion, confusion_matrix(labels, predicted, labels=range(5))
    )
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for c in range(5):
        want = softmax[labels == c].mean(0) if (labels == c).any() else 0
        np.testing.assert_allclose(got.mean_prob[c], want, rtol=1e-4, atol=1e-7)


def test_macc_of_all_classes_is_the_balanced_accuracy():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(60, 4)), np.arange(60) % 4
    got = splat.classification_metrics(logits, labels, 4)
    want = balanced_accuracy_score(labels, logits.argmax(1))
    np.testing.assert_allclose(got.macc, want, rtol=1e-6)


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"logits must be \[M, 4\] for labels \[M\], got \(3, 5\)"):
        splat.classification_metrics(np.zeros((3, 5)), np.zeros(3, int), 4)
