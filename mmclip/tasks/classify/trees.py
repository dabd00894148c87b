"""Ensembles of trees on the views of a star: gradient boosting and extremely randomised trees.

All give [test rows, classes] probabilities. They take a missing value as it is. Where a view has
draws (measures of random parts of a light curve), trees learn from all of them, and an answer is
the mean over those of the star.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.errors import MissingExtra
from mmclip.tasks.classify import priors
from mmclip.tasks.classify.baselines import Problem
from mmclip.tasks.curve_summary import summary

Soft = NDArray[np.float64]
Features = NDArray[np.float32]  # [1 + draws, objects, features]
ROUNDS = 150  # of boosting
SMALL = 5000  # training objects, below which trees may have smaller leaves


def features(asked: Problem, views: tuple[str, ...], learned: bool) -> Features:
    """[1 + draws, objects, features] of some views: tables as they are, others summarised.

    Args:
        asked, views: See `baselines.forest`.
        learned: Put the unit vectors of the views beside them.
    """
    vectors = [asked.vectors[v] for v in views] if learned else []
    made = []
    for n in range(1 + max((asked.draws.get(v, 0) for v in views), default=0)):
        seen = [summary(asked.of_draw(v, n), asked.sizes[v]) for v in views]
        made.append(np.concatenate([*seen, *vectors], axis=1))
    return np.stack(made).astype(np.float32)


def boosting(
    x: Features, labels: NDArray[np.int64], classes: int, rows: dict[str, NDArray[Any]], seed: int
) -> Soft:
    """Gradient boosting by LightGBM, or by scikit-learn where that is not installed.

    Source:
        Ke et al. 2017 (NeurIPS 30), LightGBM; scikit-learn's HistGradientBoostingClassifier.
    """
    present, codes = np.unique(labels[rows["train"]], return_inverse=True)
    seen = x[:, rows["train"]].reshape(-1, x.shape[2])
    model = boosted(seen, np.tile(codes, len(x)), seed, draws=len(x))
    soft = [chances(model, one[rows["test"]]) for one in x]
    return _over_all(averaged(soft), present, classes)


def boosted(
    x: NDArray[Any], codes: NDArray[np.int64], seed: int, weight: NDArray[Any] | None = None,
    draws: int = 1,
) -> Any:  # fmt: skip
    """LightGBM's booster, or scikit-learn's classifier where that is not installed.

    Args:
        x: [n, d] features.
        codes: [n] classes 0 to k - 1, each of which some object has.
        seed: Of the bagging.
        weight: [n], or None for all alike.
        draws: Rows that each object has.
    """
    # Draws of one curve are no new objects: a leaf needs as many objects as without them, or so.
    leaf = (10 if len(x) // draws < SMALL else 20) * max(1, 3 * draws // 4)
    shrunk = 5.0 if draws == 1 else 10.0
    package = lightgbm()
    if package is None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            learning_rate=0.08, max_iter=ROUNDS, max_leaf_nodes=24, l2_regularization=shrunk,
            min_samples_leaf=leaf, max_features=0.3, early_stopping=False, random_state=seed,
        ).fit(x, codes, weight)  # fmt: skip
    several = int(codes.max()) + 1
    settings = {
        "objective": "multiclass" if several > 2 else "binary", "learning_rate": 0.08,
        "num_leaves": 24, "feature_fraction": 0.3 if x.shape[1] > 20 else 0.8,
        "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": shrunk, "max_bin": 127,
        "min_data_in_leaf": leaf, "num_threads": 1, "seed": seed, "verbosity": -1,
        "deterministic": True,
    } | ({"num_class": several} if several > 2 else {})  # fmt: skip
    return package.train(settings, package.Dataset(x, codes, weight=weight), ROUNDS)


def chances(model: Any, x: NDArray[Any]) -> Soft:
    """[n, k] probabilities of the classes, by what `boosted` made."""
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(x), np.float64)
    soft = np.asarray(model.predict(x, num_threads=1), np.float64)
    return soft if soft.ndim == 2 else np.stack([1 - soft, soft], axis=1)


def as_text(model: Any) -> str:
    """LightGBM's model as its own text; empty for another's."""
    return str(model.model_to_string()) if hasattr(model, "model_to_string") else ""


def from_text(text: str) -> Any:
    """The inverse of `as_text`.

    Raises:
        MissingExtra: Without LightGBM.
    """
    package = lightgbm()
    if package is None:
        raise MissingExtra("this head was grown by LightGBM, which is not installed",
                           'pip install "mmclip[boost]"')  # fmt: skip
    return package.Booster(model_str=text)


def lightgbm() -> Any:
    """The package, or None where it is not installed."""
    try:
        import lightgbm as package
    except ImportError:
        return None
    return package


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
