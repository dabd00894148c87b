"""A map of the embedding space: UMAP in two dimensions, fitted on the training stars."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.errors import UsageError
from mmclip.vectors.store import Store

Row = dict[str, Any]


def average(store: Store, modality: str | None = None) -> NDArray[np.float32]:
    """[stars, dim]: the vectors of one view, or the mean of those a star has (not renormalised).

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842: embeddings averaged over the views present.
    """
    return store.average() if modality in (None, "mean") else store.vectors(modality)


def project(
    store: Store,
    modality: str | None = None,
    neighbours: int = 50,
    min_dist: float = 0.2,
    seed: int = 42,
) -> NDArray[np.float32]:
    """[stars, 2] UMAP coordinates; NaN for stars without the view. Other splits are transformed.

    Source:
        Settings of Schwarz & Buck 2024, arXiv:2410.16081: cosine, 50 neighbours, 0.2.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that TensorFlow is absent
        import umap

    vectors = average(store, modality)
    seen = np.isfinite(vectors[:, 0])
    train = seen & (store.split == "train")
    if train.sum() < 5:
        raise UsageError(f"a map needs 5 training stars or more, here are {int(train.sum())}")
    reducer = umap.UMAP(
        n_neighbors=min(neighbours, int(train.sum()) - 1),
        min_dist=min_dist,
        metric="cosine",
        random_state=seed,
        init="spectral" if train.sum() > 50 else "random",
    )
    places = np.full((len(vectors), 2), np.nan, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places[train] = reducer.fit_transform(vectors[train])
        rest = seen & ~train
        if rest.any():
            places[rest] = reducer.transform(vectors[rest])
    return places
