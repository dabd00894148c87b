"""The store: one row a star, one unit vector a modality, null where it was not observed."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.datasets import tables
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.modalities import meant
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
    def table(self) -> pa.Table:
        """The whole table, checked against the manifest."""
        table = tables.read(artifacts.checked(self.artifact, "vectors.parquet"))
        artifacts.still(self.artifact)
        return table

    @cached_property
    def source_id(self) -> NDArray[np.int64]:
        """[stars] int64."""
        return tables.column(self.table, "source_id")

    @cached_property
    def split(self) -> NDArray[np.str_]:
        """[stars] of `train`, `validation`, `test`."""
        return tables.column(self.table, "split").astype(str)

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
            return unit(self.average())
        return tables.column(self.table, self.modality(name))

    def average(self) -> NDArray[np.float32]:
        """[stars, dim]: the mean of the unit vectors that a star has; not renormalised.

        Source:
            Rizhko & Bloom 2025, arXiv:2411.08842: embeddings averaged over the views present.
        """
        total = np.zeros((len(self.source_id), self.dimension), np.float32)
        seen = np.zeros(len(total), np.int64)
        for name in self.modalities:
            vectors = self.vectors(name)
            seen += np.isfinite(vectors[:, 0])
            total += np.nan_to_num(vectors)
        mean = (total / np.maximum(seen, 1)[:, None]).astype(np.float32)
        mean[seen == 0] = np.nan
        return mean

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.table.schema.field(self.modalities[0]).type.list_size)

    def view(self, name: str) -> str:
        """Like `modality`, where `mean` (the average of the views a star has) is a name too."""
        return name if name == MEAN else self.modality(name)

    def rows(self, ids: list[int]) -> NDArray[np.int64]:
        """Row of each id.

        Raises:
            NotFound: Naming the first id that is not there.
        """
        wanted = pa.array(ids, pa.int64())
        found = pc.index_in(wanted, value_set=self.table["source_id"])
        if found.null_count:
            lost = [i for i, f in zip(ids, found.to_pylist(), strict=True) if f is None]
            near = int(self.source_id[np.argmin(np.abs(self.source_id - lost[0]))])
            hint = f"an id that is there: {near}"
            if abs(near - lost[0]) <= 1024 and near != lost[0]:
                hint = f"did it lose its last digits in a float? Very near lies {near}"
            raise NotFound(
                f"source_id {lost[0]} is not among the {len(self.source_id)} stars of "
                f"{self.artifact.path}" + (f" (nor {len(lost) - 1} more)" if lost[1:] else ""),
                hint,
            )
        return found.to_numpy().astype(np.int64)

    def index(self, name: str) -> tuple[indexes.Index, NDArray[np.int64]]:
        """The index of a modality and the row of the store behind each of its entries."""
        vectors = self.vectors(name)
        rows = np.flatnonzero(np.isfinite(vectors[:, 0]))
        if name == MEAN:
            return indexes.Exact(np.ascontiguousarray(vectors[rows])), rows
        return indexes.read(self.artifact, name, np.ascontiguousarray(vectors[rows])), rows


def write(
    folder: Path,
    source_id: NDArray[np.int64],
    split: NDArray[np.str_],
    vectors: dict[str, NDArray[np.float32]],
    factory: str,
) -> dict[str, Any]:
    """Write `vectors.parquet` and an index a modality; returns what each index is.

    Args:
        folder: Where to.
        source_id, split: [stars].
        vectors: [stars, dim] each; NaN rows for stars without the view.
        factory: FAISS factory string.
    """
    columns: dict[str, pa.Array] = {"source_id": pa.array(source_id), "split": pa.array(split)}
    about = {}
    for name, matrix in vectors.items():
        missing = ~np.isfinite(matrix[:, 0])
        flat = pa.array(np.nan_to_num(matrix).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(
            flat, matrix.shape[1], mask=pa.array(missing)
        )
    tables.write(folder / "vectors.parquet", pa.table(columns))
    for name, matrix in vectors.items():
        rows = np.isfinite(matrix[:, 0])
        if not rows.any():
            raise UsageError(f"no star has the view '{name}'")
        about[name] = indexes.write(folder, name, np.ascontiguousarray(matrix[rows]), factory)
    return about
