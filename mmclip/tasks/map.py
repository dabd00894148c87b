"""A map of the embedding space: UMAP fitted once, kept, and new stars placed on it."""

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays, artifacts
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.datasets import tables
from mmclip.errors import UsageError
from mmclip.ids import reorder
from mmclip.vectors.store import MEAN, Store

Row = dict[str, Any]
BLOCK = 20_000  # stars that are placed at a time


@dataclass(frozen=True)
class MapConfig:
    """Settings of a map.

    Source:
        Defaults of Schwarz & Buck 2024, arXiv:2410.16081: cosine, 50 neighbours, 0.2. Rizhko &
        Bloom 2025, arXiv:2411.08842, use 45, 0.7, seed 42, on averaged embeddings.
    """

    modality: str = MEAN  # one view, or the mean of those a star has
    neighbours: int = 50  # UMAP n_neighbors
    min_dist: float = 0.2  # UMAP min_dist
    seed: int = 42
    left_out: tuple[str, ...] = ()  # classes that are not fitted, only placed
    sample: int = 0  # training stars that are fitted, drawn at random; 0: all there are


def average(store: Store, modality: str | None = None) -> NDArray[np.float32]:
    """[stars, dim]: the vectors of one view, or the mean of those a star has (not renormalised).

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842: embeddings averaged over the views present.
    """
    return store.average() if modality in (None, MEAN) else store.vectors(modality)


def project(
    store: Store,
    modality: str | None = None,
    neighbours: int = 50,
    min_dist: float = 0.2,
    seed: int = 42,
) -> NDArray[np.float32]:
    """[stars, 2] UMAP coordinates; NaN for stars without the view. See `fit`."""
    return fit(store, MapConfig(modality or MEAN, neighbours, min_dist, seed))


def fitted_rows(store: Store, config: MapConfig, left_out: NDArray | None = None) -> NDArray:
    """[stars] True for those on which the map is fitted: training stars that have the view.

    Of more than `config.sample` of them so many are drawn by the seed.
    """
    seen = np.isfinite(average(store, config.modality)[:, 0])
    train = seen & store.of("train")
    if left_out is not None:
        train &= ~left_out
    count = int(train.sum())
    if count < 5:
        raise UsageError(
            f"a map needs 5 training stars or more, here are {count}", "embed a larger data set"
        )
    if 0 < config.sample < count:
        chance = np.random.default_rng(config.seed)
        drawn = chance.choice(np.flatnonzero(train), config.sample, replace=False)
        train = np.zeros(len(train), bool)
        train[drawn] = True
    return np.asarray(train, bool)


def fit(
    store: Store, config: MapConfig, left_out: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """[stars, 2] UMAP coordinates; NaN for stars without the view.

    Args:
        store: Vectors.
        config: See `MapConfig`.
        left_out: [stars] True for stars that are only placed on the map, as are those of the
            other splits.
    """
    vectors = average(store, config.modality)
    train = fitted_rows(store, config, left_out)
    places = np.full((len(vectors), 2), np.nan, np.float32)
    reducer = _reducer(config, int(train.sum()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places[train] = reducer.fit_transform(vectors[train])
    rest = np.isfinite(vectors[:, 0]) & ~train
    if rest.any():
        places[rest] = _transform(reducer, vectors[rest])
    return places


def _reducer(config: MapConfig, count: int, start: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that TensorFlow is absent
        import umap
    if start is None:
        start = "spectral" if count > 50 else "random"
    return umap.UMAP(
        n_neighbors=min(config.neighbours, count - 1),
        min_dist=config.min_dist,
        metric="cosine",
        random_state=config.seed,
        init=start,
    )


def _transform(reducer: Any, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Places of vectors, `BLOCK` at a time: each needs its own graph."""
    placed = np.empty((len(vectors), 2), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in range(0, len(vectors), BLOCK):
            placed[start : start + BLOCK] = reducer.transform(vectors[start : start + BLOCK])
    return placed


def write(
    folder: Path, store: Store, places: NDArray, train: NDArray, config: MapConfig
) -> Artifact:
    """Write a map artefact: `places.parquet`, `umap.json`. Nothing in it is executed when read."""
    from importlib.metadata import version

    seen = np.isfinite(places[:, 0])
    table = pa.table(
        {
            "source_id": pa.array(store.source_id[seen]),
            "split": pa.array(store.split[seen]),
            "fitted": pa.array(train[seen]),
            "x": pa.array(places[seen, 0]),
            "y": pa.array(places[seen, 1]),
        }
    )
    tables.write(folder / paths.PLACES, table)
    about = asdict(config) | {"metric": "cosine", "umap-learn": version("umap-learn")}
    write_atomic(folder / paths.UMAP, json.dumps(about, indent=2).encode())
    return artifacts.seal(
        folder,
        "map",
        config=json.loads(json.dumps(asdict(config))),
        parents=[store.artifact.reference],
        rows={"objects": int(seen.sum()), "fitted": int(train.sum())},
        surveys=store.artifact.manifest.surveys,
        provenance=store.artifact.manifest.provenance,
        seed=config.seed,
    )


@artifacts.opener
def read(artifact: Artifact) -> tuple[MapConfig, pa.Table]:
    """Settings and places of a map artefact, checked."""
    body = dict(artifact.manifest.config)
    body["left_out"] = tuple(body["left_out"])
    places = tables.read(artifacts.checked(artifact, paths.PLACES))
    artifacts.check_unreplaced(artifact)
    return MapConfig(**body), places


def places_of(artifact: Artifact, store: Store) -> NDArray[np.float32]:
    """[stars, 2] places of a store's stars on a map that was made from it; NaN where none."""
    _, table = read(artifact)
    at = reorder(arrays.column(table, "source_id"), store.source_id)
    xy = np.stack([arrays.column(table, "x"), arrays.column(table, "y")], axis=1)
    if at is None:
        return xy.astype(np.float32)
    return np.where(at[:, None] >= 0, xy[at], np.nan).astype(np.float32)


def place(artifact: Artifact, origin: Store, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put new vectors on a stored map, as UMAP's own transform would have.

    The neighbour graph is built again from the fitted stars' vectors; their places are those
    stored, so that nothing but numbers is ever read from disk.

    Args:
        artifact: The map.
        origin: The vectors it was made from.
        vectors: [new, dim] of the same view, as `average` gives them; NaN rows stay NaN.
    """
    config, table = read(artifact)
    fitted = arrays.column(table, "fitted").astype(bool)
    rows = origin.rows(arrays.column(table, "source_id")[fitted].tolist())
    known = average(origin, config.modality)[rows]
    if vectors.shape[1] != known.shape[1]:
        raise UsageError(
            f"vectors of {vectors.shape[1]} dimensions on a map of {known.shape[1]}",
            "embed them with the run behind the map",
        )
    there = np.stack([arrays.column(table, n)[fitted] for n in ("x", "y")], axis=1)
    reducer = _reducer(config, len(known), there.astype(np.float32))
    reducer.n_epochs = 0  # the graph alone
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reducer.fit(known)
    reducer.embedding_, reducer.n_epochs = there.astype(np.float32), None
    places = np.full((len(vectors), 2), np.nan, np.float32)
    seen = np.isfinite(vectors[:, 0])
    if seen.any():
        places[seen] = _transform(reducer, vectors[seen])
    return places
