"""raw/ -> data/: prepare every view, reject by reason, split, normalise by the training split."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import artifacts, config, plugins
from mmclip.artifacts import Artifact, write_atomic
from mmclip.datasets import split, tables
from mmclip.datasets.labels import join_labels
from mmclip.datasets.raw import read_view
from mmclip.errors import MmclipError, NotFound, UsageError, nearest
from mmclip.modalities import Modality, Statistics, normalise, statistics


@dataclass(frozen=True)
class PreprocessConfig:
    """Settings of `mmclip preprocess`."""

    modalities: tuple[str, ...] = ()  # empty: every view the raw data hold
    normalisation: str = "z"  # z | mad, per entry over the training split
    seed: int = 42  # of the split
    clip: float = 10.0  # normalised values are limited to +-clip; 0 keeps them


@dataclass(frozen=True)
class View:
    """One modality of a data set, in normalised units.

    Attributes:
        values: [objects, length] float32; NaN where not observed.
        errors: The same shape, 1-sigma; None if the modality has none.
        statistics: What undoes the normalisation.
        provenance: `observed` or `modelled`.
        size: Shape of one object; its product is `length`.
    """

    values: NDArray[np.float32]
    errors: NDArray[np.float32] | None
    statistics: Statistics
    provenance: str
    size: tuple[int, ...]

    @property
    def present(self) -> NDArray[np.bool_]:
        """[objects] True where at least one entry was observed."""
        seen = np.asarray(np.isfinite(self.values).any(axis=1), np.bool_)
        return seen


@dataclass(frozen=True)
class Dataset:
    """A data artefact in memory; row i of everything is the same star."""

    artifact: Artifact
    objects: pa.Table
    views: dict[str, View] = field(default_factory=dict)

    @property
    def source_id(self) -> NDArray[np.int64]:
        """[objects] int64."""
        return tables.column(self.objects, "source_id")

    @property
    def split(self) -> NDArray:
        """[objects] of `train`, `validation`, `test`."""
        return tables.column(self.objects, "split").astype(str)


def build(
    raw: Artifact, settings: PreprocessConfig, folder: Path, own: pa.Table | None = None
) -> Artifact:
    """Write a data artefact into `folder` from one raw artefact.

    Args:
        raw: What was fetched.
        settings: See `PreprocessConfig`.
        folder: Where to.
        own: A table of the user's with `source_id`, joined to the objects.

    Raises:
        NotFound: If a modality is unknown or the raw data lack it.
        UsageError: If nothing is left.
    """
    if settings.normalisation not in ("z", "mad"):
        raise UsageError(
            f"normalisation '{settings.normalisation}' is not known", "choose z or mad"
        )
    chosen = choose(raw, settings.modalities)
    objects = read_view(raw, "objects")
    ids = tables.column(objects, "source_id").astype(np.int64)
    if len(ids) == 0:
        raise UsageError(f"{raw.path} holds no objects", "fetch some: mmclip fetch --survey demo")
    if len(np.unique(ids)) < len(ids):
        raise MmclipError(f"{raw.path} has source_ids more than once", "fetch it again")
    if own is not None:
        objects = join_labels(objects, own)
    parts = split.assign(ids, settings.seed)
    rejected: list[tuple[int, str, str]] = []
    flags = {}
    for modality in chosen:
        flags[modality.name] = _view(raw, modality, ids, parts, settings, folder, rejected)
    table = objects.append_column("split", pa.array(parts))
    for name, present in flags.items():
        table = table.append_column(f"has_{name}", pa.array(present))
    kept = np.logical_or.reduce(list(flags.values()))
    if not kept.any():
        reasons = sorted({f"{m}: {r}" for _, m, r in rejected})
        raise UsageError(
            f"no object of {raw.path} survives preprocessing ({'; '.join(reasons)})",
            f"mmclip info {raw.path}",
        )
    tables.write(folder / "objects.parquet", table)
    tables.write(
        folder / "rejects.parquet",
        pa.table(
            {
                "source_id": pa.array([r[0] for r in rejected], pa.int64()),
                "modality": pa.array([r[1] for r in rejected], pa.string()),
                "reason": pa.array([r[2] for r in rejected], pa.string()),
            }
        ),
    )
    counted = {f"rejected {m}: {r}": 0 for _, m, r in rejected}
    for _, m, r in rejected:
        counted[f"rejected {m}: {r}"] += 1
    rows: dict[str, int] = {"objects": len(ids)}
    rows |= {name: int(present.sum()) for name, present in flags.items()}
    rows |= {s: int((parts == s).sum()) for s in split.SPLITS} | counted
    return artifacts.seal(
        folder,
        "data",
        config=config.to_dict(settings) | {"modalities": [m.name for m in chosen]},
        parents=[raw.reference],
        rows=rows,
        surveys=raw.manifest.surveys,
        provenance={m.name: raw.manifest.provenance[m.name] for m in chosen},
        seed=settings.seed,
    )


def choose(raw: Artifact, wanted: tuple[str, ...]) -> list[Modality]:
    """The modalities asked for, or all that the raw data hold."""
    held = sorted(raw.manifest.provenance)
    for name in wanted:
        modality = plugins.load("modalities", name, "MODALITY")
        if modality.name not in held:
            extra = " --modelled-rvs" if name == "rvs" and "demo" in raw.path.name else ""
            raise NotFound(
                f"{raw.path} holds no {name} ({nearest(name, held)})",
                f"mmclip fetch --survey {raw.path.name}{extra}",
            )
    return [plugins.load("modalities", n, "MODALITY") for n in (wanted or tuple(held))]


def _view(
    raw: Artifact,
    modality: Modality,
    ids: NDArray[np.int64],
    parts: NDArray[np.str_],
    settings: PreprocessConfig,
    folder: Path,
    rejected: list[tuple[int, str, str]],
) -> NDArray[np.bool_]:
    table = read_view(raw, modality.name)
    lacking = [c.name for c in modality.columns if c.name not in table.column_names]
    if lacking:
        raise UsageError(f"{modality.name} of {raw.path} has no column {', '.join(lacking)}")
    here = tables.column(table, "source_id").astype(np.int64)
    table = table.filter(pa.array(np.isin(here, ids)))
    here = tables.column(table, "source_id").astype(np.int64)
    if len(np.unique(here)) < len(here):
        raise MmclipError(f"{modality.name} of {raw.path} has source_ids more than once")
    prepared = modality.prepare({c.name: tables.column(table, c.name) for c in modality.columns})
    bad = prepared.reasons != ""
    rejected += [
        (int(i), modality.name, str(r))
        for i, r in zip(here[bad], prepared.reasons[bad], strict=True)
    ]
    lookup = {int(i): p for i, p in zip(ids, parts, strict=True)}
    training = np.array([lookup[int(i)] == "train" for i in here], bool) & ~bad
    if not training.any():
        training = ~bad
    by = statistics(prepared.values[training], modality.normalisation or settings.normalisation)
    values = normalise(prepared.values[~bad], by)
    if settings.clip > 0 and by.method != "none":
        values = np.clip(values, -settings.clip, settings.clip)
    columns = {"source_id": pa.array(here[~bad]), "values": tables.fixed(values)}
    if prepared.errors is not None:
        columns["errors"] = tables.fixed((prepared.errors[~bad] / by.scale).astype(np.float32))
    tables.write(folder / f"{modality.name}.parquet", pa.table(columns))
    body = {
        "method": by.method,
        "split": "train",
        "rows": int(training.sum()),
        "unit": modality.unit,
        "size": list(modality.size),
        "labels": modality.labels(),
        "centre": by.centre.tolist(),
        "scale": by.scale.tolist(),
    }
    write_atomic(folder / f"{modality.name}.statistics.json", json.dumps(body).encode())
    return np.isin(ids, here[~bad])


def read_statistics(artifact: Artifact, name: str) -> Statistics:
    """The normalisation of one view, as stored with the data."""
    body: dict[str, Any] = json.loads(
        artifacts.checked(artifact, f"{name}.statistics.json").read_bytes()
    )
    return Statistics(np.array(body["centre"]), np.array(body["scale"]), body["method"])


def open_dataset(artifact: Artifact, modalities: tuple[str, ...] = ()) -> Dataset:
    """Read a data artefact; every file is checked against the manifest first.

    Args:
        artifact: Of kind `data`.
        modalities: Which views to read; empty for all.
    """
    held = list(artifact.manifest.provenance)
    for name in modalities:
        if name not in held:
            plugins.load("modalities", name, "MODALITY")
            raise NotFound(
                f"{artifact.path} holds no {name} (it holds: {', '.join(held)})",
                f"mmclip preprocess --modalities {','.join([*held, name])}",
            )
    objects = tables.read(artifacts.checked(artifact, "objects.parquet"))
    ids = tables.column(objects, "source_id")
    views = {}
    for name in modalities or held:
        table = tables.read(artifacts.checked(artifact, f"{name}.parquet"))
        rows = pc.index_in(table["source_id"], value_set=objects["source_id"]).to_numpy()
        values = tables.column(table, "values")
        views[name] = View(
            _spread(values, rows, len(ids)),
            _spread(tables.column(table, "errors"), rows, len(ids))
            if "errors" in table.column_names
            else None,
            read_statistics(artifact, name),
            artifact.manifest.provenance[name],
            _size(artifact, name),
        )
    return Dataset(artifact, objects, views)


def _size(artifact: Artifact, name: str) -> tuple[int, ...]:
    body = json.loads(artifacts.checked(artifact, f"{name}.statistics.json").read_bytes())
    return tuple(int(n) for n in body["size"])


def _spread(values: NDArray, rows: NDArray, count: int) -> NDArray[np.float32]:
    full = np.full((count, values.shape[1]), np.nan, np.float32)
    full[rows] = values
    return full
