"""The stars that a head learns from or is asked about, and the labels they have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.arrays import encode
from mmclip.datasets.build import Dataset
from mmclip.datasets.names import check_label
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.tasks.neighbours import observed
from mmclip.tasks.predict import features
from mmclip.tasks.predict.features import Read
from mmclip.vectors.store import Store

Floats = NDArray[np.floating[Any]]
VECTORS = "vectors "  # before the name of a view whose vectors are an input


@dataclass(frozen=True)
class Stars:
    """Stars and what is known of them.

    Attributes:
        source_id, split: [n].
        present: [n] by the name of a view.
        read: Reads an input, by its name: a view, or `vectors VIEW`.
    """

    source_id: NDArray[np.int64]
    split: NDArray[Any]
    present: Mapping[str, NDArray[np.bool_]]
    read: Mapping[str, Read]

    def __len__(self) -> int:
        return len(self.source_id)


def stars_of(data: Dataset, store: Store | None = None) -> Stars:
    """The stars of a data set; with their vectors, if there are any."""
    read: dict[str, Read] = {n: features.reader(v) for n, v in data.views.items()}
    present = {n: v.present for n, v in data.views.items()}
    if store is not None:
        at = store.find(data.source_id)
        for name in store.modalities:
            if name in data.views:
                vectors = store.vectors(name)
                seen = observed(vectors)
                read[VECTORS + name] = _placed(vectors, at)
                present[name] = present[name] & (at >= 0) & seen[np.maximum(at, 0)]
    return Stars(data.source_id, data.split, present, read)


def _placed(vectors: NDArray[np.float32], at: NDArray[np.int64]) -> Read:
    inside = features.vectors_reader(vectors)
    return lambda rows: inside(at[rows])


@dataclass(frozen=True)
class Target:
    """What is predicted: a number, or a class.

    Attributes:
        name, unit: Of the column.
        classes: Names, for a class.
        logarithmic: Its logarithm is what is learned.
        centre, scale: Mean and deviation of the training stars (of the logarithm, if so).
    """

    name: str
    unit: str = ""
    classes: tuple[str, ...] = ()
    logarithmic: bool = False
    centre: float = 0.0
    scale: float = 1.0

    @property
    def width(self) -> int:
        """Columns of the targets that it takes."""
        return len(self.classes) or 1

    def standard(self, values: Floats) -> Floats:
        """Field units -> mean 0, deviation 1."""
        with np.errstate(all="ignore"):
            raw = np.log10(values) if self.logarithmic else values
        return (raw - self.centre) / self.scale

    def field(self, values: Floats) -> Floats:
        """The inverse of `standard`."""
        raw = values * self.scale + self.centre
        return np.asarray(10.0**raw if self.logarithmic else raw)


@dataclass(frozen=True)
class Labels:
    """Labels of the stars of a data set.

    Attributes:
        target: Which.
        truth: [n] numbers in field units (NaN unknown) or codes of classes (-1 unknown).
        error: [n] 1-sigma in field units, or None.
    """

    target: Target
    truth: NDArray[Any]
    error: Floats | None

    @property
    def known(self) -> NDArray[np.bool_]:
        """[n]."""
        return np.asarray(
            self.truth >= 0 if self.target.classes else np.isfinite(self.truth), np.bool_
        )

    def columns(self) -> Floats:
        """[n, width] standardised, NaN where unknown."""
        if not self.target.classes:
            return self.target.standard(self.truth)[:, None]
        one: Floats = np.eye(len(self.target.classes))[np.maximum(self.truth, 0)]
        one[self.truth < 0] = np.nan
        return one


def labels(data: Dataset, names: Sequence[str], where: NDArray[np.bool_]) -> list[Labels]:
    """Labels by name, standardised over the stars `where` ([objects]) they are learned from.

    Raises:
        NotFound: If there is no such column, of numbers or names.
    """
    return [_label(data, name, where) for name in names]


def _label(data: Dataset, name: str, where: NDArray[np.bool_]) -> Labels:
    table = data.objects
    columns = [f.name for f in table.schema if f.name not in ("source_id", "split")]
    if name not in columns:
        raise NotFound(
            f"the data set has no column '{name}'; {nearest(name, columns)}",
            "mmclip preprocess --labels FILE   (a table with source_id and the labels)",
        )
    check_label(table, name)
    field = table.schema.field(name)
    if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
        found, codes = encode(table, name)
        there = np.unique(codes[where & (codes >= 0)])
        kept = [n for i, n in enumerate(found) if i in there and n]
        turn = np.array([kept.index(n) if n in kept else -1 for n in found] + [-1])
        return Labels(Target(name, classes=tuple(kept)), turn[codes], None)
    if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
        raise UsageError(f"'{name}' holds neither numbers nor names", f"columns: {columns}")
    truth = arrays.column(table, name).astype(np.float64)
    unit = (field.metadata or {}).get(b"unit", b"").decode()
    error = None
    if f"{name}_error" in columns:
        error = arrays.column(table, f"{name}_error").astype(np.float64)
    known = truth[where & np.isfinite(truth)]
    warm = (unit == "K" or name.startswith("teff")) and len(known) > 0 and bool((known > 0).all())
    raw = np.log10(known) if warm else known
    spread = float(raw.std()) if len(raw) else 1.0
    unit = unit or ("K" if name.startswith("teff") else "")
    centre = float(raw.mean()) if len(raw) else 0.0
    return Labels(Target(name, unit, (), warm, centre, spread or 1.0), truth, error)


def weights(known: Sequence[Labels]) -> Floats:
    """[n] of each star, from the errors of its labels: 2 / (1 + (error / median)^2), 1/4 to 2."""
    if not known:
        return np.ones(0)
    made = np.ones((len(known), len(known[0].truth)))
    for row, one in zip(made, known, strict=True):
        if one.error is None:
            continue
        good = np.isfinite(one.error) & (one.error > 0)
        if good.any():
            relative = one.error[good] / np.median(one.error[good])
            row[good] = np.clip(2 / (1 + relative**2), 0.25, 2.0)
    return np.asarray(made.mean(axis=0))
