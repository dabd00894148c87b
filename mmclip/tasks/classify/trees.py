"""Ensembles of trees on the views of a star: gradient boosting and extremely randomised trees.

All give [test rows, classes] probabilities. They take a missing value as it is. Where a view has
draws (measures of random parts of a light curve), trees learn from all of them, and an answer is
the mean over those of the star.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.tasks.classify import priors
from mmclip.tasks.classify.baselines import Problem
from mmclip.tasks.curve_summary import summary

Soft = NDArray[np.float64]
Features = NDArray[np.float32]  # [1 + draws, objects, features]
SMALL = 5000  # training objects, below which trees may have smaller leaves


def features(
    asked: Problem, sizes: dict[str, tuple[int, ...]], views: tuple[str, ...], learned: bool
) -> Features:
    """[1 + draws, objects, features] of some views: tables as they are, others summarised.

    Args:
        asked, sizes, views: See `baselines.forest`.
        learned: Put the unit vectors of the views beside them.
    """
    vectors = [asked.vectors[v] for v in views] if learned else []
    return np.stack([
        np.concatenate([*(summary(asked.of_draw(v, n), sizes[v]) for v in views), *vectors], axis=1)
        for n in range(1 + max((asked.draws.get(v, 0) for v in views), default=0))
    ]).astype(np.float32)  # fmt: skip


def boosting(
    x: Features, labels: NDArray[np.int64], classes: int, rows: dict[str, NDArray[Any]], seed: int
) -> Soft:
    """Gradient boosting by LightGBM, or by scikit-learn where that is not installed.

    Source:
        Ke et al. 2017 (NeurIPS 30), LightGBM; scikit-learn's HistGradientBoostingClassifier.
    """
    seen, known = _train(x, labels, rows["train"])
    draws = len(x)
    # Draws of one curve are no new objects: a leaf needs as many objects as without them, or so.
    leaf = (10 if len(rows["train"]) < SMALL else 20) * max(1, 3 * draws // 4)
    shrunk = 5.0 if draws == 1 else 10.0
    try:
        import lightgbm
    except ImportError:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            learning_rate=0.08, max_iter=150, max_leaf_nodes=24, l2_regularization=shrunk,
            min_samples_leaf=leaf, max_features=0.3, early_stopping=False, random_state=seed,
        ).fit(seen, known)  # fmt: skip
        soft = [model.predict_proba(one[rows["test"]]) for one in x]
        return _over_all(averaged(soft), model.classes_, classes)
    present, codes = np.unique(known, return_inverse=True)
    binary = len(present) == 2
    settings = {
        "objective": "binary" if binary else "multiclass", "learning_rate": 0.08,
        "num_leaves": 24, "feature_fraction": 0.3 if x.shape[2] > 20 else 0.8,
        "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": shrunk, "max_bin": 127,
        "min_data_in_leaf": leaf, "num_threads": 1, "seed": seed, "verbosity": -1,
        "deterministic": True,
    } | ({} if binary else {"num_class": len(present)})  # fmt: skip
    grown = lightgbm.train(settings, lightgbm.Dataset(seen, codes), 150)
    soft = [np.asarray(grown.predict(one[rows["test"]], num_threads=1), np.float64) for one in x]
    if binary:
        soft = [np.stack([1 - p, p], axis=1) for p in soft]
    return _over_all(averaged(soft), present, classes)


def extra_trees(
    x: Features, labels: NDArray[np.int64], classes: int, rows: dict[str, NDArray[Any]], seed: int
) -> Soft:
    """Extremely randomised trees, a quarter of the features a split; NaN lies below all numbers.

    Source:
        Geurts, Ernst & Wehenkel 2006 (Machine Learning 63, 3).
    """
    from sklearn.ensemble import ExtraTreesClassifier

    filled = np.where(np.isfinite(x), x, np.nanmin(x) - 1 if np.isfinite(x).any() else 0)
    number, leaf = (300, 1) if len(x) == 1 else (150, 2)
    trees = ExtraTreesClassifier(
        number, max_features=0.25, min_samples_leaf=leaf, random_state=seed, n_jobs=1
    ).fit(*_train(filled, labels, rows["train"]))
    soft = [trees.predict_proba(one[rows["test"]]) for one in filled]
    return _over_all(averaged(soft), trees.classes_, classes)


def _train(x: Features, labels: NDArray[np.int64], rows: NDArray[Any]) -> tuple[Any, Any]:
    """Features of the training objects in every draw, and their classes."""
    return x[:, rows].reshape(-1, x.shape[2]), np.tile(labels[rows], len(x))


def averaged(soft: Sequence[Soft]) -> Soft:
    """Geometric mean of the answers to the draws, brought to sum 1."""
    if len(soft) == 1:
        return soft[0]
    made = np.exp(np.mean([np.log(np.maximum(p, priors.LEAST)) for p in soft], axis=0))
    return np.asarray(made / made.sum(axis=1, keepdims=True))


def _over_all(soft: Any, known: NDArray[Any], classes: int) -> Soft:
    """Probabilities of the classes seen in training, among all."""
    made = np.zeros((len(soft), classes))
    made[:, known] = soft
    return made
