"""The store: one row a star, one unit vector a modality, null where it was not observed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import arrays, artifacts
from mmclip.artifacts import Artifact, paths
from mmclip.config import Json
from mmclip.datasets import memmap, tables
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.ids import lookup, required_rows
from mmclip.modalities import meant
from mmclip.vectors import exact
from mmclip.vectors import index as indexes

MEAN = "mean"


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows brought to length 1; NaN rows and zero rows become NaN."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, np.nan)).astype(np.float32)


@dataclass(frozen=True)
class Store:
    """A vectors artefact, its columns read when asked for."""

    artifact: Artifact

    @property
    def modalities(self) -> list[str]:
        """Names of the views that were embedded."""
        return sorted(self.artifact.manifest.provenance)

    @cached_property
    def file(self) -> Path:
        """The whole table, checked against the manifest."""
        return artifacts.checked(self.artifact, paths.VECTORS)

    @cached_property
    def splits(self) -> pa.Table:
        """[stars, 1] the column `split`; as texts of NumPy (`split`) it is five times as large."""
        table = tables.read(self.file, ["split"])
        artifacts.check_unreplaced(self.artifact)
        return table

    @cached_property
    def mapped(self) -> bool:
        """True if the vectors are too large to be held in memory."""
        size = 4 * len(self.source_id) * len(self.modalities) * self.dimension
        return size > memmap.held() and memmap.possible(self.artifact)

    @cached_property
    def columns(self) -> dict[str, NDArray[np.float32]]:
        """[stars, dim] of each view: in memory, or mapped from the disk."""
        if self.mapped:
            return memmap.columns(self.artifact, self.file, self.modalities, self.source_id)
        table = tables.read(self.file, self.modalities)
        artifacts.check_unreplaced(self.artifact)
        return {n: arrays.column(table, n) for n in self.modalities}

    @cached_property
    def source_id(self) -> NDArray[np.int64]:
        """[stars] int64."""
        ids = arrays.column(tables.read(self.file, ["source_id"]), "source_id")
        artifacts.check_unreplaced(self.artifact)
        return ids

    @cached_property
    def find(self) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
        """The row of each id, -1 for one that is not there; see `mmclip.ids.lookup`."""
        return lookup(self.source_id)

    @cached_property
    def split(self) -> NDArray[np.str_]:
        """[stars] of `train`, `validation`, `test`."""
        return arrays.words(self.splits, "split")

    def of(self, split: str) -> NDArray[np.bool_]:
        """[stars] True for those of a split: a byte each, where `split` takes forty."""
        return arrays.equals(self.splits, "split", split)

    def modality(self, name: str) -> str:
        """The view that was embedded under this name (`xp` also means `xp_coefficients`).

        Raises:
            NotFound: If it was not, naming those that were.
        """
        name = meant(name, self.modalities)
        if name not in self.modalities:
            raise NotFound(
                f"no vectors of '{name}' in {self.artifact.path}; {nearest(name, self.modalities)}",
                f"they hold: {', '.join(self.modalities)}",
            )
        return name

    def vectors(self, name: str) -> NDArray[np.float32]:
        """[stars, dim] unit vectors; NaN for a star without this view.

        `mean` names the average of the views a star has, brought back to unit length.
        """
        if name == MEAN:
            return self._mean() if self.mapped else unit(self.average())
        return self.columns[self.modality(name)]

    def average(self, rows: slice | NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """[stars, dim]: the mean of the unit vectors that a star has; not renormalised.

        Args:
            rows: Which stars; None for all.

        Source:
            Rizhko & Bloom 2025, arXiv:2411.08842: embeddings averaged over the views present.
        """
        if rows is None:
            whole = np.empty((len(self.source_id), self.dimension), np.float32)
            for part in memmap.blocks(*whole.shape):
                whole[part] = self.average(part)
            return whole
        views = [self.columns[name][rows] for name in self.modalities]
        total, seen = np.zeros(views[0].shape, np.float32), np.zeros(len(views[0]), np.int64)
        for vectors in views:
            seen += np.isfinite(vectors[:, 0])
            total += np.nan_to_num(vectors)
        total /= np.maximum(seen, 1)[:, None]
        total[seen == 0] = np.nan
        return total

    def _mean(self) -> NDArray[np.float32]:
        shape = (len(self.source_id), self.dimension)
        return memmap.kept(
            self.artifact, "vectors.mean", shape, lambda part: unit(self.average(part))
        )

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        kind = pq.read_schema(self.file).field(self.modalities[0]).type
        return int(kind.list_size)

    def view(self, name: str) -> str:
        """Like `modality`, where `mean` (the average of the views a star has) is a name too."""
        return name if name == MEAN else self.modality(name)

    def rows(self, ids: list[int]) -> NDArray[np.int64]:
        """Row of each id.

        Raises:
            NotFound: Naming the first id that is not there.
        """
        owner = f"the {len(self.source_id)} stars of {self.artifact.path}"
        return required_rows(self.source_id, np.array(ids, np.int64), owner)

    def index(self, name: str) -> tuple[exact.Index, NDArray[np.int64]]:
        """The index of a modality and the row of the store behind each of its entries."""
        vectors = self.vectors(name)
        if self.mapped and (name == MEAN or exact.stored(self.artifact, name)):
            return exact.Exact(vectors), np.arange(len(vectors))
        rows = np.flatnonzero(np.isfinite(vectors[:, 0]))
        if name == MEAN:
            return exact.Exact(np.ascontiguousarray(vectors[rows])), rows
        return indexes.read(self.artifact, name, np.ascontiguousarray(vectors[rows])), rows


def write(
    folder: Path,
    source_id: NDArray[np.int64],
    split: pa.ChunkedArray,
    vectors: dict[str, NDArray[np.float32]],
    factory: str,
    before: Artifact | None = None,
) -> Json:
    """Write `vectors.parquet` and an index a modality; returns what each index is.

    Args:
        folder: Where to.
        source_id, split: [stars].
        vectors: [stars, dim] each; NaN rows for stars without the view.
        factory: FAISS factory string.
        before: A vectors artefact of the first stars: its indexes are added to; None: new ones.
    """
    parts = memmap.blocks(len(source_id), sum(v.shape[1] for v in vectors.values()))
    pieces = (_piece(source_id, split, vectors, part) for part in parts)
    tables.write_pieces(folder / paths.VECTORS, pieces)
    about = {}
    for name, matrix in vectors.items():
        rows = np.isfinite(matrix[:, 0])
        if not rows.any():
            raise UsageError(f"no star has the view '{name}'")
        if factory == "Flat" and matrix.nbytes > memmap.held():
            about[name] = exact.write(folder, name, int(rows.sum()))
            continue
        seen = np.ascontiguousarray(matrix[rows])
        if before is None:
            about[name] = indexes.write(folder, name, seen, factory)
        else:
            about[name] = indexes.extend(before, folder, name, seen)
    return about


def _piece(
    source_id: NDArray[np.int64],
    split: pa.ChunkedArray,
    vectors: dict[str, NDArray[np.float32]],
    part: slice,
) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "source_id": pa.array(source_id[part]),
        "split": split.slice(part.start, part.stop - part.start),
    }
    for name, matrix in vectors.items():
        missing = ~np.isfinite(matrix[part, 0])
        values = pa.array(np.nan_to_num(matrix[part]).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(
            values, matrix.shape[1], mask=pa.array(missing)
        )
    return pa.table(columns)
