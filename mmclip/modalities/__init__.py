"""What an observation is: columns with units, its kind, and how a raw row becomes numbers.

A modality is one file that defines `MODALITY`, the only schema: importing, preparing, drawing,
generating and exporting a view all read it. Its functions are NumPy and Arrow only and work on many
objects at once. NaN marks a value that was not observed; it is never invented.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import Array
from mmclip.config import Json

Columns = Mapping[str, Any]  # a NumPy array, or `Lists` where the length of a row is not fixed
Kind = Literal["spectrum", "light curve", "table", "image"]
Number = Literal["float32", "float64", "int32", "string"]
ARROW: dict[Number, pa.DataType] = {
    "float32": pa.float32(), "float64": pa.float64(), "int32": pa.int32(), "string": pa.string(),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column of a raw view.

    Attributes:
        name, unit, meaning: As they stand in the schema of the Parquet file.
        length: 1 for a scalar, more for a list of that many entries, 0 for a list of any length.
        optional: The modality can be prepared without it.
        aliases: Other names under which a file that is imported may have it.
        number: Type of an entry.
    """

    name: str
    unit: str
    meaning: str
    length: int = 1
    optional: bool = False
    aliases: tuple[str, ...] = ()
    number: Number = "float32"

    @property
    def is_list(self) -> bool:
        """True unless it is a scalar."""
        return self.length != 1

    @property
    def type(self) -> pa.DataType:
        """Its Arrow type as a file is read; lists of one length become fixed-size when stored."""
        entry = ARROW[self.number]
        return pa.list_(entry) if self.is_list else entry

    def field(self, kind: pa.DataType | None = None, **more: str) -> pa.Field:
        """A field of an Arrow schema, with unit and meaning (and `more`) in its metadata."""
        about = {"unit": self.unit, "meaning": self.meaning} | more
        return pa.field(self.name, kind or self.type, metadata=about)


def meant(name: str, held: Iterable[str]) -> str:
    """The view that a word means: itself, or the only one held that continues it.

    `xp` means the archive's `xp_coefficients` where no sampled `xp` is held.
    """
    there = list(held)
    longer = [h for h in there if h.startswith(f"{name}_")]
    return longer[0] if name not in there and len(longer) == 1 else name


@dataclass(frozen=True)
class Prepared:
    """Many objects made ready, before normalisation over the data set.

    Attributes:
        values: [objects, length] float32; NaN where not observed. What is infinite, as a number
            beyond float32 becomes, is not observed either.
        errors: [objects, length] float32, 1-sigma in the unit of `values`; None if unknown.
        reasons: [objects] of text; empty for a good object, else why it is rejected.
        correlations: [objects, any length] of the errors, as `Modality.factors` reads them; None if
            unknown or not kept.
    """

    values: NDArray[np.float32]
    errors: NDArray[np.float32] | None
    reasons: NDArray[np.object_]
    correlations: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name in ("values", "errors"):
            given = getattr(self, name)
            if given is not None and np.isinf(given).any():
                object.__setattr__(self, name, np.where(np.isinf(given), np.float32(np.nan), given))


@dataclass(frozen=True)
class Export:
    """How a raw view is written for other programs: one column of nested lists.

    Attributes:
        column: Name of the nested column.
        needs: Raw columns without which a row is left out.
        lists: Raw view -> the lists in the nested column, by name.
        named_by: What names the objects.
    """

    column: str
    needs: tuple[str, ...]
    lists: Callable[[pa.Table], dict[str, pa.Array]]
    named_by: Literal["object_name", "source_id"] = "object_name"


@dataclass(frozen=True)
class Modality:
    """The contract of a modality.

    Attributes:
        name: Of the view in files and on the command line; without a dot.
        title: For people.
        columns: The raw columns it reads, beside `source_id`.
        labels: Names of the entries of a prepared vector ([length]).
        axis: Wavelength or the like of each entry ([length], in `axis_unit`), or None.
        unit: Unit of a prepared value.
        prepare: Raw columns -> `Prepared`.
        encoder: Name of the encoder that is used when none is asked for.
        kind: What it is: a spectrum, a light curve (lists `time` in days, `flux` or `magnitude`,
            and `error`), a table of scalars, or an image [channels, rows, columns].
        decoder: Name of the decoder that is used when none is asked for; empty: by the kind.
        shape: Shape of one object where it is more than a vector, row-major in the stored one:
            (200, 9) for a light curve, (3, 96, 96) for an image.
        normalisation: Fixes how entries are normalised over the training split: `z`, `mad`, or
            `none` where `prepare` normalises each object by itself; empty: the user chooses.
        anchors: For each entry of a vector ([length]) the entry whose statistics it takes, or -1
            for an entry that is kept as it is; None: each entry takes its own.
        view: The raw view it reads; empty: the one of its own name.
        raw: All columns of the raw view where `columns` are only some of them, or are narrower
            under the settings; empty: `columns`.
        aliases: Other words for it after `import --as`.
        export: Its layout in the Multimodal Universe; None: a column of its own name with the lists
            of the raw view.
        settings: A frozen dataclass of what a user may choose, resolved; None: nothing.
        configure: Other settings -> the modality under them.
        detect: (raw columns, settings given) -> settings that the data themselves fix.
        factors: Correlations -> what `redraw` needs of them, [objects, any length].
        redraw: (values, errors, factors, normal numbers, NumPy or PyTorch, whose arrays these are)
            -> values drawn anew within their covariance, before normalisation; None: the errors
            of entries are independent.
        origin: What finds it again where its name does not: the dotted module name under which it
            was loaded. Set by `mmclip.modalities.registry`.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    labels: Callable[[], list[str]]
    unit: str
    prepare: Callable[[Columns], Prepared]
    encoder: str
    kind: Kind
    decoder: str = ""
    axis: Callable[[], Array] | None = None
    axis_unit: str = ""
    shape: tuple[int, ...] = ()
    normalisation: str = ""
    anchors: Callable[[], NDArray[np.int64]] | None = None
    view: str = ""
    raw: tuple[Column, ...] = ()
    aliases: tuple[str, ...] = ()
    export: Export | None = None
    settings: Any = None
    configure: Callable[[Any], "Modality"] | None = None
    detect: Callable[[Columns, Mapping[str, Any]], Json] | None = None
    factors: Callable[[Array], NDArray[np.float32]] | None = None
    redraw: Callable[[Any, Any, Any, Any, ModuleType], Any] | None = None
    origin: str = ""

    @property
    def size(self) -> tuple[int, ...]:
        """Shape of one prepared object; its product is the length of a prepared vector."""
        return self.shape or (len(self.labels()),)

    @property
    def source(self) -> str:
        """Name of the raw view it reads."""
        return self.view or self.name

    @property
    def address(self) -> str:
        """The name that loads it again: its own, or the dotted one; `@RAW` is kept."""
        base, at, place = self.name.partition("@")
        return f"{self.origin or base}{at}{place}"

    @property
    def stored(self) -> tuple[Column, ...]:
        """The columns of the raw view."""
        return self.raw or self.columns

    @property
    def fixed(self) -> bool:
        """True if the lists of the raw view are all of one length."""
        return any(c.length > 1 for c in self.columns)


@dataclass(frozen=True)
class Statistics:
    """What undoes the preparation of a view.

    Attributes:
        centre, scale: Of each entry over the training split ([length] each).
        method: `z`, `mad` or `none`.
        settings: Those of the modality, as JSON values; empty if it has none.
        origin: See `Modality.origin`.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    @property
    def never(self) -> NDArray[np.bool_]:
        """[length] True for entries that no training object has."""
        return np.asarray(
            (self.method != "none") & (self.centre == 0) & (self.scale == 1), np.bool_
        )

    def to_dict(self) -> Json:
        """As JSON values."""
        return {
            "centre": self.centre.tolist(), "scale": self.scale.tolist(), "method": self.method,
            "settings": dict(self.settings),
        } | ({"origin": self.origin} if self.origin else {})  # fmt: skip

    @staticmethod
    def from_dict(body: Mapping[str, Any]) -> "Statistics":
        """The inverse of `to_dict`; other keys are left alone."""
        return Statistics(
            np.array(body["centre"]), np.array(body["scale"]), body["method"],
            body.get("settings", {}), body.get("origin", ""),
        )  # fmt: skip


def statistics(values: Array, method: str = "z") -> Statistics:
    """Centre and scale of each column, of the finite values alone.

    Args:
        values: [objects, length]; NaN where not observed.
        method: `z` (mean and population standard deviation), `mad` (median and 1.4826 times
            the median absolute deviation) or `none` (centre 0, scale 1).

    Returns:
        `Statistics`; a column that does not vary, or was never observed, gets scale 1.
    """
    length = values.shape[1]
    centre, scale = np.zeros(length), np.ones(length)
    for j in range(length if method != "none" else 0):
        column = values[:, j].astype(np.float64)
        column = column[np.isfinite(column)]
        if len(column) == 0:
            continue
        if method == "mad":
            centre[j] = np.median(column)
            spread = 1.4826 * np.median(np.abs(column - centre[j]))
        else:
            centre[j] = column.mean()
            spread = column.std()
        # A constant column has a spread of rounding errors, not of stars.
        if spread > 1e-12 * max(1.0, abs(centre[j])):
            scale[j] = spread
    return Statistics(centre, scale, method)


def normalise(values: Array, by: Statistics) -> NDArray[np.float32]:
    """(values - centre) / scale, NaN kept."""
    return ((values - by.centre) / by.scale).astype(np.float32)


def restore(values: Array, by: Statistics) -> NDArray[np.float64]:
    """The inverse of `normalise`: back to the modality's own unit."""
    return values.astype(np.float64) * by.scale + by.centre


def restore_error(errors: Array, by: Statistics) -> NDArray[np.float64]:
    """A spread in normalised units, back in the modality's own unit."""
    return errors.astype(np.float64) * by.scale
