"""What a decoder must beat: the nearest observed spectra, PCA + ridge, the mean."""

import numpy as np
from numpy.typing import NDArray

from mmclip.vectors.index import build

Floats = NDArray[np.float32]
COMPONENTS = 32
PENALTIES = np.logspace(-6, 2, 9)  # of ridge, times the mean square of an input
MOST = 50_000  # training stars that are worth using
CHUNK = 1024  # stars whose neighbours are sought at a time


def baselines(
    vectors: Floats,
    raw: Floats,
    values: Floats,
    train: NDArray[np.int64],
    checks: NDArray[np.int64],
    asked: NDArray[np.int64],
    k: int,
) -> dict[str, NDArray[np.float64]]:
    """Guesses [asked, L] of a view by each baseline, from training stars.

    Args:
        vectors: [stars, D] what the decoder reads.
        raw: [stars, R] the same views unembedded, zeros for NaN.
        values: [stars, L] the view to guess, NaN where not observed.
        train, checks, asked: Rows of training and validation stars, and of those to guess; all
            have both views.
        k: Neighbours.
    """
    known = values[train].astype(np.float64)
    mean = np.nanmean(known, axis=0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    take = min(k, len(train))
    index = build(np.ascontiguousarray(unit[train]))
    near = np.empty((len(asked), values.shape[1]))
    for start in range(0, len(asked), CHUNK):
        part = slice(start, start + CHUNK)
        _, found = index.search(np.ascontiguousarray(unit[asked[part]]), take)
        near[part] = np.nan_to_num(np.nanmean(known[found], axis=1), nan=0.0)
    del known, index
    return {
        f"mean of the {k} nearest observed": near,
        "PCA + ridge from the embedding": pca_ridge(vectors, values, train, checks, asked),
        "PCA + ridge from the raw view": pca_ridge(raw, values, train, checks, asked),
        "mean of the training stars": np.broadcast_to(mean, near.shape),
    }


def pca_ridge(
    features: Floats,
    values: Floats,
    train: NDArray[np.int64],
    checks: NDArray[np.int64],
    asked: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Ridge regression from features [stars, F] to the first 32 principal components.

    The penalty is the one with the least square on the validation stars `checks`; entries that
    were not observed stand at the training mean.
    """
    y = values[train].astype(np.float64)
    mean = np.nan_to_num(np.nanmean(y, axis=0))
    y -= mean
    np.nan_to_num(y, copy=False)
    kept = min(COMPONENTS, y.shape[1])
    basis = np.linalg.eigh(y.T @ y)[1][:, ::-1][:, :kept]
    x = features.astype(np.float64)
    x -= x[train].mean(axis=0)
    known = x[train]
    square = known.T @ known
    eigenvalues, turn = np.linalg.eigh(square)
    target = turn.T @ (known.T @ (y @ basis))
    size = float(np.trace(square)) / x.shape[1]
    del y, known
    best = np.inf
    chosen: NDArray[np.float64] = mean + np.zeros((len(asked), len(mean)))
    for penalty in PENALTIES * max(size, 1e-12):
        weight = turn @ (target / (np.maximum(eigenvalues, 0) + penalty)[:, None]) @ basis.T
        rows = checks if len(checks) else train
        miss = float(np.nanmean((mean + x[rows] @ weight - values[rows]) ** 2))
        if miss < best:
            best, chosen = miss, mean + x[asked] @ weight
    return chosen
