"""S13: whether global features of one class lie together."""

import functools

import numpy as np

from jaxlab.runs import Claim, Run, holds, spread
from jaxlab.splat import figures
from jaxlab.splat.studies.gains import mean_confusion
from jaxlab.splat.studies.tables import Table

_ENDS = ("p", "posq")

STATEMENTS = {"S13": "Clusters of classes separate better with Gaussian-splat input"}


def measure(config, run: Run, table: Table) -> list[Claim]:
    """Silhouette, and agreement of k-means with the classes, of the analytic trials."""
    model = config.models[0]
    scores = {
        features: run.once(
            f"separation_{model}_{features}",
            functools.partial(_scores, table.trials[model, features]),
        )
        for features in _ENDS
    }
    names = table.trials[model, "p"][0]["labels"]
    run.figure(
        "embedding",
        figures.embedding({f: scores[f]["plane"] for f in _ENDS}, names),
    )
    run.figure(
        "confusion", figures.confusion({f: mean_confusion(table.trials[model, f]) for f in _ENDS})
    )
    told = [
        f"{name} {spread(scores['p'][name]):.3f} to {spread(scores['posq'][name]):.3f}"
        for name in ("silhouette", "AMI")
    ]
    better = [
        scores["posq"][name].mean() > scores["p"][name].mean() for name in ("silhouette", "AMI")
    ]
    return [
        Claim(
            "S13",
            STATEMENTS["S13"],
            "",
            "; ".join(told),
            holds(all(better)),
            detail=f"Analytic clouds, global feature of {model} on test objects, from positions to "
            "all features; AMI is the adjusted mutual information of k-means with the classes. "
            "Criterion: both higher.",
        )
    ]


def _scores(trials: list[dict]) -> dict:
    from sklearn.cluster import KMeans
    from sklearn.manifold import TSNE
    from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

    silhouette, agreement = [], []
    for trial in trials:
        features, labels = trial["embedding"], trial["labels"]
        classes = len(np.unique(labels))
        clusters = KMeans(classes, n_init=4, random_state=0).fit_predict(features)
        silhouette.append(silhouette_score(features, labels))
        agreement.append(adjusted_mutual_info_score(labels, clusters))
    plane = TSNE(random_state=0, init="pca").fit_transform(trials[0]["embedding"])
    return {"silhouette": np.array(silhouette), "AMI": np.array(agreement), "plane": plane}
