"""AstroM3's released tables: light curves, spectra and metadata of a star in one row.

Two layouts. Raw: `photometry` [n, 3] of HJD, flux, error; `spectra` [m, 3] of wavelength, flux,
inverse variance; `metadata` a struct of the 34 catalogue columns and the four of the light curve.
Processed: `photometry` [n, 9], `spectra` [3, 2575] and `metadata` [34], scaled and standardised
by its authors: kept as they are in the column `prepared`. `label` is a name or a number.

Times of the raw tables are float32: a heliocentric Julian date is known to a quarter of a day.

Source: Rizhko & Bloom 2025, arXiv:2411.08842, public code and data cards.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.errors import IntegrityError, UsageError
from mmclip.modalities import Modality
from mmclip.modalities.metadata_astrom3 import COLUMNS
from mmclip.readers import Loaded, Options, Reader, files, views

VIEWS = ("photometry", "spectra", "metadata")
# Numbers of the released labels: places in the alphabetical list.
CLASSES = ("DSCT", "EA", "EB", "EW", "HADS", "M", "ROT", "RRAB", "RRC", "SR")
CURVE = ("amplitude", "period", "lksl_statistic", "rfr_score")
START, STEP = 3850.0, 2.0  # Angstrom, of the processed spectra
Nested = tuple[NDArray[np.float64], NDArray[np.int64]]  # [points, width], offsets of the rows


def recognises(source: Loaded) -> bool:
    """True for a Parquet table with light curves or spectra as lists of lists."""
    if files.kind(source, source.name) != "parquet":
        return False
    schema = files.parquet_schema(source)
    kinds = [schema.field(n).type for n in ("photometry", "spectra") if n in schema.names]
    return bool(kinds) and all(arrays.is_list(k) and arrays.is_list(k.value_type) for k in kinds)


def read(source: Loaded, modality: Modality, options: Options) -> pa.Table:
    """One view of a released table, with the class of each star as `class`.

    Raises:
        UsageError: If the table has no such view.
        IntegrityError: If its lists have another shape.
    """
    view = modality.view or modality.name
    held = files.parquet_schema(source).names
    if view not in held:
        raise UsageError(f"{source.name} has no column {view} (it has: {', '.join(held)})")
    table = files.parquet(source, [n for n in held if n in (view, META) or n not in VIEWS])
    made = {"photometry": _photometry, "spectra": _spectra, "metadata": _metadata}[view](table)
    columns, scalars, reasons = made
    plain = _labelled(table.drop_columns([n for n in VIEWS if n in table.column_names]))
    for name, values in scalars.items():
        plain = plain.append_column(name, pa.array(values))
    extra = {n: pa.array(v) for n, v in scalars.items()} if view == "metadata" else None
    return views.from_table(
        modality, plain, columns, reasons, options, files.stem(source), survey="astrom3",
        extra=extra,
    )  # fmt: skip


META = "metadata"
Made = tuple[dict[str, pa.Array], dict[str, NDArray[np.float64]], list[str]]


def _photometry(table: pa.Table) -> Made:
    points, offsets = _nested(table, "photometry", (3, 9))
    columns = {
        name: _lists(points[:, i], offsets) for i, name in enumerate(("time", "flux", "error"))
    }
    scalars = dict[str, NDArray[np.float64]]()
    if points.shape[1] == 9:
        columns["prepared"] = _lists(points.ravel(), offsets * 9)
    elif META in table.column_names:
        found = _named(table)
        scalars = {n: found[n] for n in CURVE if n in found}
    few = np.diff(offsets) == 0
    return columns, scalars, ["no point" if f else "" for f in few]


def _spectra(table: pa.Table) -> Made:
    column = arrays.whole(table, "spectra")
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    widths = pc.list_value_length(column.flatten()).to_numpy(zero_copy_only=False)
    if len(widths) and (lengths == 3).all() and (widths != 3).all():
        pixels = int(widths[0])
        flat = np.asarray(column.flatten().flatten(), np.float64)
        if (widths != pixels).any():
            raise IntegrityError("spectra: channels of different lengths")
        cube = flat.reshape(len(lengths), 3, pixels)
        waves = np.tile(START + STEP * np.arange(pixels), len(lengths))
        offsets = np.arange(len(lengths) + 1) * pixels
        columns = {
            "wavelength": _lists(waves, offsets),
            "flux": _lists(cube[:, 0].ravel(), offsets),
            "prepared": _lists(flat, offsets * 3),
        }
        return columns, {}, [""] * len(lengths)
    points, offsets = _nested(table, "spectra", (3,))
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.where(points[:, 2] > 0, points[:, 2] ** -0.5, np.nan)
    columns = {"wavelength": _lists(points[:, 0], offsets), "flux": _lists(points[:, 1], offsets),
               "sigma": _lists(sigma, offsets)}  # fmt: skip
    return columns, {}, ["no pixel" if n == 0 else "" for n in np.diff(offsets)]


def _metadata(table: pa.Table) -> Made:
    kind = table.schema.field(META).type
    if pa.types.is_struct(kind):
        return {}, _named(table), [""] * table.num_rows
    values = np.asarray(arrays.whole(table, META).flatten(), np.float64)
    if len(values) != table.num_rows * len(COLUMNS):
        raise IntegrityError(f"metadata: not {len(COLUMNS)} numbers a star")
    matrix = values.reshape(table.num_rows, len(COLUMNS))
    scalars = {name: matrix[:, i] for i, name in enumerate(COLUMNS)}
    return {}, scalars | {"prepared": np.ones(table.num_rows)}, [""] * table.num_rows


def _named(table: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Every number in the struct `metadata`, however deep, by its own name."""
    found: dict[str, NDArray[np.float64]] = {}

    def walk(array: pa.StructArray) -> None:
        for i, field in enumerate(array.type):
            inner = pc.struct_field(array, i)
            if pa.types.is_struct(field.type):
                walk(inner)
            else:
                found[field.name] = np.asarray(inner.cast(pa.float64()), np.float64)

    if pa.types.is_struct(table.schema.field(META).type):
        walk(arrays.whole(table, META))
    return found


def _nested(table: pa.Table, name: str, widths: tuple[int, ...]) -> Nested:
    """A column of lists of points, every point of one width."""
    column = arrays.whole(table, name)
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    points = column.flatten()
    each = pc.unique(pc.list_value_length(points)).to_pylist()
    if len(points) and (len(each) != 1 or each[0] not in widths):
        known = " or ".join(map(str, widths))
        raise IntegrityError(f"{name}: points of {each} numbers, not of {known}")
    width = each[0] if each else widths[0]
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    flat = np.asarray(points.flatten(), np.float64).reshape(-1, width)
    return flat, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _lists(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> pa.Array:
    kept = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))
    return kept


def _labelled(table: pa.Table) -> pa.Table:
    """`label` as the name of the class, in the column `class`."""
    if "label" not in table.column_names:
        return table
    values: list[Any] = table["label"].to_pylist()
    if not pa.types.is_string(table.schema.field("label").type):
        known = _class_names(table.schema)
        values = [None if v is None or not 0 <= v < len(known) else known[v] for v in values]
    place = table.column_names.index("label")
    return table.set_column(place, "class", pa.array(values, pa.string()))


def _class_names(schema: pa.Schema) -> tuple[str, ...]:
    """Names of the numbers of `label`, as `datasets` writes them, else those of the release."""
    body = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    named = body.get("info", {}).get("features", {}).get("label", {}).get("names")
    return tuple(named) if named else CLASSES


READER = Reader("astrom3", lambda source, units: recognises(source), read, VIEWS)
