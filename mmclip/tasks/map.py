"""Maps of the embedding space: UMAP fitted once, stored, and new stars placed on it."""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays, artifacts, compiled
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.artifacts.owner import cache_root
from mmclip.artifacts.workspace import Workspace
from mmclip.config import MOST, Json, Part, Range, Seed, Whole, check
from mmclip.datasets import tables
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.ids import reorder
from mmclip.results import Result, from_table
from mmclip.tasks.neighbours import data_rows
from mmclip.tasks.outliers import class_members
from mmclip.vectors.store import MEAN, Store

CONCATENATED = "concatenated"
BLOCK = 20_000  # stars that are placed at a time
LONG = 100_000  # stars, fitted and placed, from which a map says beforehand what it costs
FITTED, PLACED = 2e-3, 0.16e-3  # s of one core that a star takes: docs/commands/map.md
Progress = Callable[[str], None]


def quiet(text: str) -> None:
    """Say nothing."""


COLUMNS = {
    "source_id": ("", "Gaia DR3 source_id"),
    "x": ("", "UMAP 1, dimensionless"),
    "y": ("", "UMAP 2, dimensionless"),
}


@dataclass(frozen=True)
class MapConfig:
    """Settings of a map.

    Source:
        Defaults of Schwarz & Buck 2024, arXiv:2410.16081: cosine, 50 neighbours, 0.2. Rizhko &
        Bloom 2025, arXiv:2411.08842, use 45, 0.7, seed 42, on averaged embeddings.
    """

    modality: str = MEAN  # one view, or the mean of those a star has
    neighbours: Annotated[int, Range(2, MOST)] = 50  # UMAP n_neighbors
    min_dist: Part = 0.2  # UMAP min_dist
    seed: Seed = 42
    left_out: tuple[str, ...] = ()  # classes that are not fitted, only placed
    sample: Whole = 0  # training stars that are fitted, drawn at random; 0: all there are
    metric: Literal["cosine", "euclidean"] = "cosine"  # of UMAP

    def __post_init__(self) -> None:
        check("map", self)


def average(store: Store, modality: str | None = None) -> NDArray[np.float32]:
    """[stars, dim]: the vectors of one view, or the mean of those a star has (not renormalised).

    `concatenated` puts those of all views side by side.

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842: embeddings averaged over the views present. The
        vectors of all views side by side, of stars that have all: the Cambridge reproduction of
        AstroCLIP.
    """
    if modality == CONCATENATED:
        found = np.concatenate([store.vectors(name) for name in store.modalities], axis=1)
        return np.where(np.isfinite(found).all(axis=1, keepdims=True), found, np.float32(np.nan))
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


def fitted_rows(
    store: Store, config: MapConfig, left_out: NDArray[Any] | None = None
) -> NDArray[Any]:
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
    store: Store, config: MapConfig, left_out: NDArray[np.bool_] | None = None,
    progress: Progress = quiet,
) -> NDArray[np.float32]:  # fmt: skip
    """[stars, 2] UMAP coordinates; NaN for stars without the view.

    Args:
        store: Vectors.
        config: See `MapConfig`.
        left_out: [stars] True for stars that are only placed on the map, as are those of the
            other splits.
        progress: Is given a line about what a large map costs, and how far it is.
    """
    vectors = average(store, config.modality)
    train = fitted_rows(store, config, left_out)
    rest = np.isfinite(vectors[:, 0]) & ~train
    fitted, placed = int(train.sum()), int(rest.sum())
    if fitted + placed >= LONG:
        progress(cost(fitted, placed))
    places = np.full((len(vectors), 2), np.nan, np.float32)
    reducer = _reducer(config, int(train.sum()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places[train] = reducer.fit_transform(vectors[train])
    if placed:
        places[rest] = _transform(reducer, vectors[rest], progress)
    return places


def cost(fitted: int, placed: int) -> str:
    """What a map of so many fitted and placed stars takes, in words."""
    both = (FITTED * fitted, PLACED * placed)
    fitting, placing = (f"{max(s / 60, 1):,.0f}" for s in both)
    told = f"fitting {fitted:,} stars: about {fitting} core minutes"
    return told + (f"; placing {placed:,}: about {placing}" if placed else "")


def _reducer(config: MapConfig, count: int, start: Any = None) -> Any:
    if start is None:
        start = "spectral" if count > 50 else "random"
    return compiled.umap(cache_root() / "compiled").UMAP(
        n_neighbors=min(config.neighbours, count - 1),
        min_dist=config.min_dist,
        metric=config.metric,
        random_state=config.seed,
        init=start,
    )


def _transform(
    reducer: Any, vectors: NDArray[np.float32], progress: Progress = quiet
) -> NDArray[np.float32]:
    """Places of vectors, `BLOCK` at a time: each needs its own graph."""
    placed = np.empty((len(vectors), 2), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in range(0, len(vectors), BLOCK):
            part = slice(start, min(start + BLOCK, len(vectors)))
            placed[part] = reducer.transform(vectors[part])
            if len(vectors) > BLOCK:
                progress(f"{part.stop:,} of {len(vectors):,} stars placed")
    return placed


def write(
    folder: Path, store: Store, places: NDArray[Any], train: NDArray[Any], config: MapConfig
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
    about = asdict(config) | {"umap-learn": version("umap-learn")}
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


def positions_of(artifact: Artifact, store: Store) -> NDArray[np.float32]:
    """[stars, 2] positions of a store's stars on a map that was made from it; NaN where none."""
    _, table = read(artifact)
    at = reorder(arrays.column(table, "source_id"), store.source_id)
    xy = np.stack([arrays.column(table, "x"), arrays.column(table, "y")], axis=1)
    if at is None:
        return xy.astype(np.float32)
    return np.where(at[:, None] >= 0, xy[at], np.nan).astype(np.float32)


def place(
    artifact: Artifact, origin: Store, vectors: NDArray[np.float32], progress: Progress = quiet
) -> NDArray[np.float32]:
    """Put new vectors on a stored map, as UMAP's own transform would have.

    The neighbour graph is built again from the fitted stars' vectors; their places are those
    stored, so that nothing but numbers is ever read from disk.

    Args:
        artifact: The map.
        origin: The vectors it was made from.
        vectors: [new, dim] of the same view, as `average` gives them; NaN rows stay NaN.
        progress: See `fit`.
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
        places[seen] = _transform(reducer, vectors[seen], progress)
    return places


def fitted_before(space: Workspace, store: Store, config: MapConfig, body: Json) -> Artifact | None:
    """The newest map of these vectors with these settings, or None."""
    for known in reversed(space.all("map")):
        if (
            _made_from(known, store)
            and {"sample": 0, "metric": "cosine"} | known.manifest.config == body
        ):
            return known
    return None


def _made_from(artifact: Artifact, store: Store) -> bool:
    """True for a map of exactly these vectors."""
    return [p["fingerprint"] for p in artifact.manifest.parents] == [
        store.artifact.manifest.fingerprint
    ]


def stored(
    space: Workspace, store: Store, data: Dataset, config: MapConfig, column: str = "class",
    name: str | None = None, force: bool = False,
    progress: Progress = quiet,
) -> NDArray[np.float32]:  # fmt: skip
    """[stars, 2] positions on the map of these settings: read if it was fitted before, else fitted.

    Args:
        space: Where maps are stored.
        store, data: The vectors, and the objects with their classes.
        config: See `MapConfig`.
        column: Which column holds the classes that are left out.
        name: Of the artefact; None: that of the vectors and a mark of the settings.
        force: Fit again.
        progress: Is given a line about what is done.

    Raises:
        NotFound: If no star has the view of the map.
    """
    left = np.zeros(len(store.source_id), bool)
    for kind in config.left_out:
        left |= class_members(store, data, kind, column)
    every = int(fitted_rows(store, replace(config, sample=0), left).sum())
    config = replace(config, sample=config.sample if config.sample < every else 0)
    body = json.loads(json.dumps(asdict(config)))
    known = None if force else fitted_before(space, store, config, body)
    if known is not None:
        progress(f"the map {known.path} was fitted before")
        return positions_of(known, store)
    mark = store.artifact.manifest.fingerprint
    digest = artifacts.sha256_bytes(json.dumps([body, mark]).encode())[:6]
    final = space.place("map", name or f"{store.artifact.path.name}-{digest}")
    if config.sample:
        progress(
            f"fitting on {config.sample:,} of {every:,} training stars, drawn by seed "
            f"{config.seed} (--sample); the others are placed on that map"
        )
    with artifacts.building(final, replace=force) as folder:
        positions = fit(store, config, left, progress)
        write(folder, store, positions, fitted_rows(store, config, left), config)
    progress(f"kept the map as {final}")
    if not np.isfinite(positions).any():
        raise NotFound("no star has the view of this map")
    return positions


def placed_on(
    space: Workspace, store: Store, name: str, progress: Progress = quiet
) -> NDArray[np.float32]:
    """[stars, 2] positions of a store's stars on a stored map of other vectors of the same run.

    Raises:
        UsageError: If another run made the vectors behind the map.
    """
    artifact = space.get("map", name)
    origin = Store(space.parent(artifact, "vectors"))
    runs = [
        [p["fingerprint"] for p in s.artifact.manifest.parents if p["kind"] == "run"]
        for s in (origin, store)
    ]
    if runs[0] != runs[1]:
        raise UsageError(
            f"{store.artifact.path} was not embedded by the run behind the map "
            f"{artifact.path.name}",
            f"mmclip embed --run {origin.artifact.manifest.parents[0]['name']}",
        )
    config, _ = read(artifact)
    return place(artifact, origin, average(store, config.modality), progress)


def positions_on(
    space: Workspace, store: Store, name: str | None = None
) -> NDArray[np.float32] | None:
    """[stars, 2] on the map of that name, or on the newest of these vectors; None without one."""
    if name:
        return positions_of(space.get("map", name), store)
    for artifact in reversed(space.all("map")):
        if _made_from(artifact, store):
            return positions_of(artifact, store)
    return None


def colour_column(data: Dataset, wanted: str | None = None) -> str:
    """The column to colour by: the one named, else teff, class or the first that can be drawn.

    Raises:
        NotFound: If there is no such column.
    """
    ours = ("source_id", "split", *(f"has_{view}" for view in data.artifact.manifest.provenance))
    usable = [
        f.name
        for f in data.objects.schema
        if f.name not in ours and (arrays.is_number(f.type) or arrays.is_name(f.type))
    ]
    if wanted and wanted not in usable:
        raise NotFound(
            f"the data set has no column '{wanted}' to colour by; {nearest(wanted, usable)}",
            f"--colour one of: {', '.join(usable)}",
        )
    order = [wanted] if wanted else ["teff", "class", *usable]
    return next(n for n in order if n in usable)


def column_values(data: Dataset, store: Store, name: str, named: bool = False) -> NDArray[Any]:
    """[stars of the store] a column: names (dtype object, empty where unknown) or numbers.

    Args:
        data: The objects.
        store: Vectors.
        name: The column.
        named: Its numbers are those of classes.

    Raises:
        UsageError: If it holds neither.
    """
    rows = data_rows(store, data)
    values: NDArray[Any]
    if named or arrays.is_name(data.objects.schema.field(name).type):
        values = arrays.decode(*arrays.encode(data.objects, name))
    else:
        values = arrays.floats(data.objects, name)
    return values if rows is None else values[rows]


def listed(store: Store, positions: NDArray[np.float32], values: NDArray[Any], name: str) -> Result:
    """One row a star on the map: source_id, x, y and the column that it is coloured by."""
    seen = np.isfinite(positions[:, 0])
    kind = pa.string() if values.dtype == object else pa.float64()
    table = pa.table({
        "source_id": store.source_id[seen],
        "x": positions[seen, 0].astype(np.float64), "y": positions[seen, 1].astype(np.float64),
        name: pa.array(values[seen], kind),
    })  # fmt: skip
    return from_table(table, "map", COLUMNS, store.artifact)
