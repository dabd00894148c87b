"""Results: the rows that answer a question, with units, provenance, citations and settings."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.errors import NotFound, UsageError, nearest

if TYPE_CHECKING:
    from astropy.table import QTable
    from pandas import DataFrame

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = Mapping[str, Value]
Columns: TypeAlias = Mapping[str, tuple[str, str]]  # name or pattern -> (unit, description)
UNIT, DESCRIPTION, SPARSE = b"unit", b"description", b"sparse"  # in a field's metadata
SHOWN = 10  # rows of a repr


class Picture(Protocol):
    """A matplotlib figure; a notebook shows it."""

    def savefig(self, fname: Path, /, *, dpi: int = ...) -> None:
        """Write it to a file."""


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The answer to one question. Its length is the number of rows; iterating gives the rows.

    Attributes:
        table: The rows. Each field carries `unit` and `description` in its metadata; a cell is
            null where the column does not apply to the row (`sparse` columns) or is unknown.
        question: What was asked, as a heading.
        how: The settings and measured qualities (recall of an index) behind the numbers.
        provenance: `observed` or `modelled` of each view that was used.
        sources: The artefacts that were asked, as `kind name fingerprint`.
        citations: Bibcodes of the surveys that the rows stand on.
        notes: Sentences that belong beside the rows: warnings, what was left out.
        draw: Makes the picture of the answer; None if there is none.
    """

    table: pa.Table
    question: str = ""
    how: Mapping[str, Value] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    citations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    draw: Callable[[], Picture] | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(65_536):
            yield from _rows(batch)

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: slice) -> "Result": ...
    def __getitem__(self, row: int | slice) -> "Row | Result":
        """One row (negative numbers count from the end), or a result of some."""
        if isinstance(row, slice):
            at = pa.array(range(*row.indices(len(self))), pa.int64())
            return replace(self, table=self.table.take(at))
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return next(iter(_rows(self.table.slice(row % len(self), 1))))

    @property
    def rows(self) -> list[Row]:
        """Every row as a mapping, without the cells of columns that do not apply to it."""
        return list(self)

    @property
    def modelled(self) -> list[str]:
        """Names of the views that were computed and not observed."""
        return artifacts.modelled(self.provenance)

    def column(self, name: str) -> NDArray[Any]:
        """[rows] a column as NumPy holds it; a null number is NaN.

        Raises:
            NotFound: If there is no such column.
        """
        if name not in self.table.column_names:
            known = self.table.column_names
            raise NotFound(f"the result has no column '{name}'; {nearest(name, known)}")
        array: NDArray[Any] = self.table[name].to_numpy()
        return array

    def unit(self, name: str) -> str:
        """The unit of a column; empty for what has none."""
        return _text(self.table.schema.field(name), UNIT)

    def head(self, count: int) -> "Result":
        """The first rows."""
        return replace(self, table=self.table.slice(0, count))

    def noting(self, *notes: str) -> "Result":
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *(n for n in notes if n)))

    def plot(self, path: str | Path | None = None) -> Picture:
        """The picture of the answer, as the option `--plot` of its command draws it.

        Args:
            path: Also write it there (.png .pdf).

        Raises:
            UsageError: If this answer has no picture.
        """
        if self.draw is None:
            raise UsageError(
                f"'{self.question}' has no picture of its own", "result.to_pandas().plot(...)"
            )
        figure = self.draw()
        if path is not None:
            figure.savefig(Path(path), dpi=150)
        return figure

    def to_table(self) -> "QTable":
        """An astropy QTable: quantities where there is a unit, masked where a cell is null.

        `meta` holds the question, the settings, provenance, sources, citations and notes.
        """
        return to_table(self.table, {
            "question": self.question, "how": dict(self.how), "provenance": dict(self.provenance),
            "sources": list(self.sources), "citations": list(self.citations),
            "notes": list(self.notes),
        })  # fmt: skip

    def to_pandas(self) -> "DataFrame":
        """A pandas DataFrame; whole numbers stay whole where some are unknown.

        `attrs` holds the question and the units.
        """
        import pandas

        whole = {pa.int64(): pandas.Int64Dtype(), pa.int32(): pandas.Int32Dtype()}
        some = {f.type for f, c in zip(self.table.schema, self.table.columns) if c.null_count}
        frame: DataFrame = self.table.to_pandas(
            types_mapper=lambda kind: whole.get(kind) if kind in some else None
        )
        units = {name: self.unit(name) for name in self.table.column_names}
        frame.attrs = {"question": self.question, "units": {n: u for n, u in units.items() if u}}
        return frame

    def __repr__(self) -> str:
        shown = self._shown()
        body = "\n".join(shown.pformat(max_width=100)) if len(self) else "no rows"
        more = f"\n... and {len(self) - SHOWN} rows more" if len(self) > SHOWN else ""
        told = "".join(f"\n{note}" for note in (*self._warning(), *self.notes))
        return f"{self.question} ({len(self)} rows)\n{body}{more}{told}"

    def _repr_html_(self) -> str:
        body = self._shown()._repr_html_() if len(self) else "<p>no rows</p>"
        more = f"<p>... and {len(self) - SHOWN} rows more</p>" if len(self) > SHOWN else ""
        told = "".join(f"<p>{escape(note)}</p>" for note in (*self._warning(), *self.notes))
        return f"<p><b>{escape(self.question)}</b></p>{body}{more}{told}"

    def _shown(self) -> "QTable":
        """The first rows, numbers to five digits."""
        made = self.head(SHOWN).to_table()
        for column in made.itercols():
            if column.dtype.kind == "f":
                column.info.format = ".5g"
        return made

    def _warning(self) -> list[str]:
        views = self.modelled
        return [f"note: {', '.join(views)} is MODELLED data, not observed"] if views else []


def from_rows(
    rows: Iterable[Row],
    question: str = "",
    columns: Columns | None = None,
    source: Artifact | None = None,
    how: Mapping[str, Value] | None = None,
    notes: Sequence[str] = (),
) -> Result:
    """A result of rows, which need not all have the same columns.

    Args:
        rows: Mappings of names to values. A column that some rows lack is `sparse`: it is left
            out of those rows again when they are read.
        question: See `Result`.
        columns: Unit and description by name; a key may be a pattern (`distance *`).
        source: The artefact that was asked: gives provenance, citations and sources.
        how, notes: See `Result`.
    """
    held = list(rows)
    names = list(dict.fromkeys(name for row in held for name in row))
    sparse = [n for n in names if any(n not in row for row in held)]
    arrays = {n: _array([r.get(n) for r in held], [n in r for r in held]) for n in names}
    return from_table(pa.table(arrays), question, columns, source, how, notes, sparse)


def from_table(
    table: pa.Table,
    question: str = "",
    columns: Columns | None = None,
    source: Artifact | None = None,
    how: Mapping[str, Value] | None = None,
    notes: Sequence[str] = (),
    sparse: Iterable[str] = (),
) -> Result:
    """A result of an Arrow table, its fields given units and descriptions; see `from_rows`."""
    empty = set(sparse)
    made = table.cast(pa.schema([_described(f, columns or {}, f.name in empty)
                                 for f in table.schema]))  # fmt: skip
    if source is None:
        return Result(made, question, dict(how or {}), notes=tuple(n for n in notes if n))
    manifest = source.manifest
    return Result(
        made, question, dict(how or {}), dict(manifest.provenance),
        (f"{manifest.kind} {source.path.name} {manifest.fingerprint[:12]}",),
        tuple(dict.fromkeys(c for s in manifest.surveys for c in s.get("citations", ()))),
        tuple(n for n in notes if n),
    )  # fmt: skip


def _described(old: pa.Field, columns: Columns, sparse: bool) -> pa.Field:
    """A field with the unit and description of its name, or of the first pattern that fits it."""
    unit, description = _text(old, UNIT), _text(old, DESCRIPTION)
    found = columns.get(old.name) or next(
        (about for pattern, about in columns.items() if fnmatchcase(old.name, pattern)), None
    )
    if found is not None:
        unit, description = found[0] or unit, found[1] or description
    metadata = {k: v.encode() for k, v in ((UNIT, unit), (DESCRIPTION, description)) if v}
    return old.with_metadata(metadata | ({SPARSE: b"yes"} if sparse else {}))


def _text(held: pa.Field, key: bytes) -> str:
    return str((held.metadata or {}).get(key, b"").decode())


def _array(values: list[Value], there: list[bool]) -> pa.Array:
    """A column: numbers mixed with texts as texts; None is null, but NaN where others lack it."""
    known = [v for v in values if v is not None]
    if any(isinstance(v, str) for v in known) and not all(isinstance(v, str) for v in known):
        values = [None if v is None else str(v) for v in values]
    numbers = known and all(isinstance(v, int | float) for v in known)
    if numbers and any(isinstance(v, float) for v in known):
        lost = [v is None and t for v, t in zip(values, there, strict=True)]
        gap = math.nan if not all(there) else None
        values = [gap if n else v if v is None else float(v) for v, n in zip(values, lost)]
    return pa.array(values, from_pandas=False)


def _rows(part: pa.Table | pa.RecordBatch) -> Iterator[Row]:
    """Rows without null cells of sparse columns."""
    sparse = {f.name for f in part.schema if _text(f, SPARSE)}
    for row in part.to_pylist():
        if sparse:
            yield {n: v for n, v in row.items() if v is not None or n not in sparse}
        else:
            yield row


def number(row: Row, name: str) -> float:
    """A cell that holds a number; NaN if it is null or not there.

    Raises:
        TypeError: If it is a text.
    """
    value = row.get(name)
    if isinstance(value, str):
        raise TypeError(f"'{name}' is the text '{value}', not a number")
    return math.nan if value is None else float(value)


def to_table(table: pa.Table, meta: Mapping[str, object] | None = None) -> "QTable":
    """An Arrow table as an astropy QTable; units and descriptions come from its fields."""
    from astropy import units
    from astropy.table import Column, MaskedColumn, QTable

    made = QTable(meta=dict(meta or {}))
    for held, column in zip(table.schema, table.columns, strict=True):
        values, lost = _values(held.type, column)
        unit = _text(held, UNIT)
        kind = Column if lost is None else MaskedColumn
        about: dict[str, object] = {"description": _text(held, DESCRIPTION) or None}
        if unit:
            about["unit"] = units.Unit(unit, parse_strict="silent")
        if lost is not None:
            about["mask"] = lost
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", units.UnitsWarning)
            made[held.name] = kind(values, **about)
    return made


def _values(kind: pa.DataType, column: pa.ChunkedArray) -> tuple[NDArray[Any], Any]:
    """Values of a column, and [rows] True where they are null (None if nowhere)."""
    if pa.types.is_floating(kind):
        return column.to_numpy(), None  # null is NaN
    if not column.null_count:
        return np.array(column.to_pylist()), None
    lost = column.is_null().to_numpy()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.fill_null(0 if pa.types.is_integer(kind) else False).to_numpy(), lost
    return np.array([v if v is not None else "" for v in column.to_pylist()]), lost
