"""Ensembles of trees on the views of a star: gradient boosting and extremely randomised trees.

All give [test rows, classes] probabilities. They take a missing value as it is.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.tasks.classify.baselines import Problem
from mmclip.tasks.curve_summary import summary

Soft = NDArray[np.float64]
SMALL = 5000  # training objects, below which trees may have smaller leaves


def features(
    asked: Problem, sizes: dict[str, tuple[int, ...]], views: tuple[str, ...], learned: bool
) -> NDArray[np.float32]:
    """[objects, features] of some views: tables as they are, others summarised.

    Args:
        asked, sizes, views: See `baselines.forest`.
        learned: Put the unit vectors of the views beside them.
    """
    parts = [summary(asked.values[v], sizes[v]) for v in views]
    if learned:
        parts += [asked.vectors[v] for v in views]
    return np.concatenate(parts, axis=1).astype(np.float32)


def boosting(
    x: NDArray[np.float32], labels: NDArray[np.int64], classes: int,
    rows: dict[str, NDArray[Any]], seed: int,
) -> Soft:  # fmt: skip
    """Gradient boosting by LightGBM, or by scikit-learn where that is not installed.

    Source:
        Ke et al. 2017 (NeurIPS 30), LightGBM; scikit-learn's HistGradientBoostingClassifier.
    """
    train = rows["train"]
    few = len(train) < SMALL
    try:
        import lightgbm
    except ImportError:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            learning_rate=0.08, max_iter=150, max_leaf_nodes=24, l2_regularization=5.0,
            min_samples_leaf=10 if few else 20, max_features=0.3, early_stopping=False,
            random_state=seed,
        ).fit(x[train], labels[train])  # fmt: skip
        return _over_all(model.predict_proba(x[rows["test"]]), model.classes_, classes)
    known, codes = np.unique(labels[train], return_inverse=True)
    binary = len(known) == 2
    settings = {
        "objective": "binary" if binary else "multiclass", "learning_rate": 0.08,
        "num_leaves": 24, "feature_fraction": 0.3 if x.shape[1] > 20 else 0.8,
        "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 5.0, "max_bin": 127,
        "min_data_in_leaf": 10 if few else 20, "num_threads": 1, "seed": seed, "verbosity": -1,
        "deterministic": True,
    } | ({} if binary else {"num_class": len(known)})  # fmt: skip
    grown = lightgbm.train(settings, lightgbm.Dataset(x[train], codes), 150)
    soft = np.asarray(grown.predict(x[rows["test"]], num_threads=1), np.float64)
    return _over_all(np.stack([1 - soft, soft], axis=1) if binary else soft, known, classes)


def extra_trees(
    x: NDArray[np.float32], labels: NDArray[np.int64], classes: int,
    rows: dict[str, NDArray[Any]], seed: int,
) -> Soft:  # fmt: skip
    """Extremely randomised trees, a quarter of the features a split; NaN lies below all numbers.

    Source:
        Geurts, Ernst & Wehenkel 2006 (Machine Learning 63, 3).
    """
    from sklearn.ensemble import ExtraTreesClassifier

    filled = np.where(np.isfinite(x), x, np.nanmin(x) - 1 if np.isfinite(x).any() else 0)
    trees = ExtraTreesClassifier(300, max_features=0.25, random_state=seed, n_jobs=1)
    trees.fit(filled[rows["train"]], labels[rows["train"]])
    return _over_all(trees.predict_proba(filled[rows["test"]]), trees.classes_, classes)


def _over_all(soft: Any, known: NDArray[Any], classes: int) -> Soft:
    """Probabilities of the classes seen in training, among all."""
    made = np.zeros((len(soft), classes))
    made[:, known] = soft
    return made
