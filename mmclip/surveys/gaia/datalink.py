"""Gaia spectra by DataLink: a zip of any format -> one row a source, every id accounted for."""

import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip.config import Json
from mmclip.errors import RemoteError
from mmclip.surveys.client import checks, votable
from mmclip.surveys.client.answers import Absent, Refused, TooMuch
from mmclip.surveys.client.http import BadAnswer, Client, Unreachable
from mmclip.surveys.gaia import epochs
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.release import Product, Release

SYNONYM = {
    "DATAMODEL_GAIA": "RAW", "RAW": "DATAMODEL_GAIA",
    "DATAMODEL_STANDARD": "INDIVIDUAL", "INDIVIDUAL": "DATAMODEL_STANDARD",
}  # fmt: skip
MOST = 5000  # ids a request
GIVE_UP = 3  # smallest chunks in a row that failed
SINGLY = 20  # ids left out that are asked for one by one


@dataclass(frozen=True)
class Gathered:
    """Spectra, one row a star, and a reason for each star without one.

    `absent` are stars of which the service has nothing: twice its answer had no body at all.
    """

    table: pa.Table
    missing: dict[int, str]
    absent: dict[int, str]


def gather(
    client: Client, product: Product, ids: list[int], release: Release, fresh: bool = False
) -> Gathered:
    """Spectra of many stars.

    A chunk that fails is halved down to `chunk_smallest`; ids that an answer leaves out are asked
    for once more by themselves, then, if they are few, one by one.

    Raises:
        Unreachable: If the service fails at chunk after chunk.
        Refused: If it says no for good.
    """
    work = _Work(client, product, release, fresh)
    work.halving(ids)
    for size in (0, 1):  # all that is left at once, then singly
        left = [i for i in work.left(ids) if i not in work.lost]
        if not left or (size and len(left) > SINGLY):
            break
        client.count(f"{product.view}_asked_again", len(left))
        for part in [left] if not size else [[i] for i in left]:
            work.halving(part)
    table = one_each(client, work.found, ids)
    rest = {i: work.lost.get(i, "not_returned") for i in work.left(ids)}
    gone = {i: "empty_answer" for i in rest if i in work.empty and i not in work.lost}
    return Gathered(table, {i: r for i, r in rest.items() if i not in gone}, gone)


class _Work:
    """The answers of one chunk, as they come."""

    def __init__(self, client: Client, product: Product, release: Release, fresh: bool) -> None:
        self.client, self.product, self.release, self.fresh = client, product, release, fresh
        self.found: list[pa.Table] = []
        self.lost: dict[int, str] = {}
        self.empty: set[int] = set()  # the answer to them was nothing at all
        self.failures = 0

    def left(self, ids: list[int]) -> list[int]:
        """Ids of which nothing came yet."""
        here = {i for t in self.found for i in t["source_id"].to_pylist()}
        return [i for i in ids if i not in here]

    def halving(self, ids: list[int]) -> None:
        """Ask for ids; where that fails, for halves of them."""
        try:
            table = ask(self.client, self.product, ids, self.release, self.fresh)
            self.failures = 0
            if table.num_rows:
                self.found.append(table)
            return
        except (Unreachable, TooMuch, Absent) as error:
            if isinstance(error, Absent) and error.words:
                self.empty.update(ids)
                return
            if self.client.offline:
                raise
            passes = isinstance(error, Unreachable)
            smallest = (
                _settings.of(self.client, self.release.settings).chunk_smallest if passes else 1
            )
            if len(ids) <= smallest:
                self.failures += 1
                if self.failures >= GIVE_UP or not self.found:
                    raise
                reason = f"service_failed: {error.message[-60:]}"
                self.lost.update(dict.fromkeys(ids, reason))
                return
        self.client.count("chunks_halved")
        middle = len(ids) // 2
        for half in (ids[:middle], ids[middle:]):
            self.halving(half)


def ask(
    client: Client, product: Product, ids: list[int], release: Release, fresh: bool = False
) -> pa.Table:
    """One request. Until one has worked, a structure that fails is followed by its synonym.

    The words differ between releases, and a service answers the wrong one with a 400 or a 500.
    """
    known = client.learned.get("data_structure", "")
    structure = known or _settings.of(client, release.settings).data_structure
    other = SYNONYM.get(structure, "")
    try:
        table = _request(client, product, ids, release, structure, fresh)
        client.learned["data_structure"] = structure
        return table
    except Refused as refused:
        named = re.search(r"data.?structure", refused.text, re.IGNORECASE)
        other_may_do = not known or named
        if not other or refused.status not in (400, 500) or not other_may_do:
            raise
        first: RemoteError = refused
    except Unreachable as error:
        # Offline the cache may hold the answer under the synonym.
        if not other or (known and not client.offline):
            raise
        first = error
    try:
        table = _request(client, product, ids, release, other, fresh)
    except (Refused, Unreachable):
        raise first from None
    client.learned["data_structure"] = other
    return table


def form(
    ids: list[int], product: Product, release: str, structure: str, format_: str
) -> dict[str, str]:
    """The fields that are posted."""
    return {
        "VALID_DATA": "false",
        "ID": ",".join(map(str, ids)),
        "RELEASE": release,
        "DATA_STRUCTURE": structure,
        "FORMAT": format_,
        "RETRIEVAL_TYPE": product.kind,
        "USE_ZIP_ALWAYS": "true",
    }


def _request(
    client: Client, product: Product, ids: list[int], release: Release, structure: str, fresh: bool
) -> pa.Table:
    parsed: list[pa.Table] = []
    settings = _settings.of(client, release.settings)
    url = f"{settings.data}/data"
    given = form(ids, product, release.title, structure, settings.format)
    if settings.linking:
        given["LINKING_PARAMETER"] = settings.linking

    def check(path: Path) -> None:
        if path.stat().st_size:
            checks.archive(path)
            parsed.append(parse(path, product, release))

    body = client.download(_settings.DATALINK, url, form=given, check=check, fresh=fresh)
    if not body.stat().st_size:  # none of these stars has the product
        raise Absent(200, "", url)
    return parsed[-1] if parsed else parse(body, product, release)


def parse(path: Path, product: Product, release: Release) -> pa.Table:
    """What a DataLink zip holds: one row a source, or for `epochs` one a transit.

    Raises:
        BadAnswer: If a member is not what its name says.
        IntegrityError: If the zip is hostile.
    """
    tables: list[pa.Table] = []
    with zipfile.ZipFile(path) as held:
        for name in sorted(held.namelist()):
            if product.word in name.upper() and not name.endswith("/"):
                tables.append(_member(held.read(name), name, product))
    kept = [t for t in tables if t.num_rows]
    if not kept:
        return pa.table({"source_id": pa.array([], pa.int64())})
    table = pa.concat_tables(kept, promote_options="permissive")
    if product.shape == "photometry":
        return epochs.view(table, release.origin, release.scale)
    return table


def _member(body: bytes, name: str, product: Product) -> pa.Table:
    try:
        table = READ[name.rpartition(".")[2].lower()](body)
    except KeyError:
        raise BadAnswer(f"the zip holds '{name[:60]}', of no known format") from None
    except RemoteError:
        raise
    except Exception as error:  # four parsers, each with kinds of their own
        if isinstance(error, BadAnswer | OSError) and not isinstance(error, ValueError):
            raise
        raise BadAnswer(f"'{name[:60]}' cannot be read ({type(error).__name__})") from error
    if product.shape == "sampled" and _long(table):
        return _stacked(table, name)
    if "source_id" not in table.column_names:
        if product.shape in ("sampled", "coefficients"):
            raise BadAnswer(f"'{name[:60]}' has no source_id")
        named = pa.array([_named(name)] * table.num_rows, pa.int64())
        table = table.append_column("source_id", named)
    return table.set_column(
        table.column_names.index("source_id"), "source_id", table["source_id"].cast(pa.int64())
    )


def _stacked(table: pa.Table, name: str) -> pa.Table:
    """A file of one star, a row a sample -> one row; the id is in a column or in the name."""
    if "source_id" in table.column_names:
        source_id = int(table["source_id"][0].as_py())
    else:
        source_id = _named(name)
    columns: Json = {"source_id": pa.array([source_id], pa.int64())}
    for c in ("flux", "flux_error"):
        values = table[c].to_numpy(zero_copy_only=False).astype(np.float32)
        columns[c] = pa.array([values], pa.list_(pa.float32()))
    return pa.table(columns)


def _long(table: pa.Table) -> bool:
    """Whether a table has a row a sample instead of a row a star."""
    names = table.column_names
    return "wavelength" in names and not pa.types.is_list(table["wavelength"].type)


def _named(name: str) -> int:
    match = re.search(r"(\d+)\.\w+$", name)
    if match is None:
        raise BadAnswer(f"'{name[:60]}' names no source")
    return int(match[1])


def _fits(body: bytes) -> pa.Table:
    import io

    from astropy.table import Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return votable.arrow(Table.read(io.BytesIO(body), format="fits", hdu=1))


def _xml(body: bytes) -> pa.Table:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        file.write(body)
        file.flush()
        return votable.read(Path(file.name))[0]


def _csv(body: bytes) -> pa.Table:
    return text_table(body.decode("utf-8-sig").splitlines())


def text_table(lines: Any, keep: Callable[[str], bool] | None = None) -> pa.Table:
    """CSV or ECSV lines as Arrow: arrays in `(...)` or `[...]`, nulls empty, `null` or `nan`.

    Args:
        lines: Of text; those that begin with `#` are header.
        keep: Tells by its source_id whether a row is wanted; None keeps all.
    """
    import csv

    rows = csv.reader(line for line in lines if not line.startswith("#"))
    header = [h.strip().lower() for h in next(rows)]
    place = header.index("source_id") if "source_id" in header else -1
    cells: list[list[str]] = [r for r in rows if keep is None or keep(r[place])]
    columns = {}
    for i, name in enumerate(header):
        columns[name] = _cells([r[i].strip() for r in cells], name)
    return pa.table(columns)


NULLS = ("", "null", "nan", "--")


def _cells(texts: list[str], name: str) -> pa.Array:
    known = [t for t in texts if t.lower() not in NULLS]
    if any(t[0] in "([" for t in known):
        kind = pa.float64() if name.endswith("coefficients") else pa.float32()
        return pa.array(
            [_numbers(t) if t.lower() not in NULLS else None for t in texts], pa.list_(kind)
        )
    if known and all(re.fullmatch(r"[+-]?\d{1,19}", t) for t in known):
        return pa.array([int(t) if t.lower() not in NULLS else None for t in texts], pa.int64())
    try:
        return pa.array([float(t) if t.lower() not in NULLS else None for t in texts], pa.float64())
    except ValueError:
        return pa.array([t if t.lower() not in NULLS else None for t in texts], pa.string())


def _numbers(text: str) -> Any:
    inner = text.strip("()[] ")
    if not inner:
        return None
    parts = (p.strip().lower() for p in inner.split(","))
    return np.array([np.nan if p in ("null", "") else float(p) for p in parts])


READ: dict[str, Callable[[bytes], pa.Table]] = {
    "fits": _fits, "xml": _xml, "vot": _xml, "csv": _csv, "ecsv": _csv,
}  # fmt: skip


def one_each(client: Client, tables: list[pa.Table], ids: list[int]) -> pa.Table:
    """Rows asked for, one a source (or transit), rising by source_id; the rest is counted."""
    kept = [t for t in tables if t.num_rows]
    if not kept:
        return pa.table({"source_id": pa.array([], pa.int64())})
    table = pa.concat_tables(kept, promote_options="permissive")
    here = table["source_id"].to_numpy()
    _, first = np.unique(_keys(table), axis=0, return_index=True)
    wanted = np.isin(here[first], np.array(ids, np.int64))
    client.count("repeated_in_answers", len(here) - len(first))
    client.count("not_asked_for", int((~wanted).sum()))
    return table.take(pa.array(first[wanted]))


def _keys(table: pa.Table) -> NDArray[np.int64]:
    """What tells rows apart ([rows, keys]): the source, and the transit where there is one."""
    names = [n for n in ("source_id", "transit_id") if n in table.column_names]
    return np.stack([table[n].to_numpy().astype(np.int64) for n in names], axis=1)


def finish(
    table: pa.Table, product: Product, learned: Json | None = None
) -> tuple[pa.Table, dict[int, str]]:
    """The table as it is stored, and reasons for rows that are not what they should be.

    Sampled spectra: `flux` and `flux_error` as fixed-size lists of float32. Coefficients: lists of
    the length that the answer has, errors and correlations with them; a missing half is null.
    """
    learned = {} if learned is None else learned
    if product.shape == "photometry":
        return _with_points(table)
    if product.shape == "epochs":
        return _epochs(table, product), {}
    if product.shape == "coefficients":
        return _coefficients(table, learned), {}
    size = product.samples or _size(table, "flux")
    length = pc.list_value_length(table["flux"])
    good = pc.fill_null(pc.equal(length, size) if size else pc.greater(length, 0), False)
    bad = table.filter(pc.invert(good))["source_id"].to_pylist()
    kept = table.filter(good)
    extra = ("solution_id", "combined_transits", "combined_ccds", "deblended_ccds")
    fields, arrays = [pa.field("source_id", pa.int64())], [kept["source_id"]]
    if not product.samples:
        learned[f"{product.view}_samples"] = sorted({*pc.unique(length).to_pylist()} - {None})
    for name in ("wavelength", "flux", "flux_error"):
        if name not in kept.column_names or (name == "wavelength" and product.samples):
            continue
        meta = {"unit": product.unit, "frame": product.frame}
        kind = pa.float64() if name == "wavelength" else pa.float32()
        array = _fixed(kept[name], size, kind) if size else kept[name].cast(pa.list_(kind))
        fields.append(pa.field(name, array.type, metadata=meta))
        arrays.append(array)
    for name in (n for n in extra if n in kept.column_names):
        fields.append(pa.field(name, pa.int64()))
        arrays.append(kept[name].cast(pa.int64()))
    return pa.table(arrays, schema=pa.schema(fields)), dict.fromkeys(bad, "invalid_payload")


def _with_points(table: pa.Table) -> tuple[pa.Table, dict[int, str]]:
    some = pc.greater(pc.list_value_length(table["time"]), 0)
    without = table.filter(pc.invert(some))["source_id"].to_pylist()
    return table.filter(some), dict.fromkeys(without, "no_valid_point")


def _epochs(table: pa.Table, product: Product) -> pa.Table:
    """Rows as they came, a row a transit, in order of star and transit; reals as float32 lists."""
    order = [(n, "ascending") for n in ("source_id", "transit_id") if n in table.column_names]
    frame = {"frame": product.frame} if product.frame else None
    fields = [
        f.with_metadata((f.metadata or {}) | {k.encode(): v.encode() for k, v in frame.items()})
        if frame and f.name == "flux"
        else f
        for f in table.schema
    ]
    return table.cast(pa.schema(fields)).sort_by(order)


def _coefficients(table: pa.Table, learned: Json) -> pa.Table:
    """Coefficients of any number, their errors and the correlations of these.

    How many there are, and whether a triangle holds its diagonal, is read from the answer;
    correlations are stored as the strictly lower triangle, row by row.
    """
    sizes = {half: _size(table, f"{half}_coefficients") for half in ("bp", "rp")}
    fields, arrays = [], []
    for name in table.column_names:
        column = table[name]
        half = sizes.get(name[:2], 0) or max(sizes.values()) or 55
        if "_coefficient_covariance" in name:
            made = _from_covariances(column, half)
            learned["xp_triangle"] = "covariances with their diagonal"
            for end, array in zip(("errors", "correlations"), made, strict=True):
                ours = f"{name[:2]}_coefficient_{end}"
                if ours not in table.column_names:
                    arrays.append(array)
                    fields.append(pa.field(ours, array.type))
            continue
        if name.endswith("_coefficient_correlations"):
            if _size(table, name) == half * (half + 1) // 2:
                column = _without_diagonal(column, half)
                learned["xp_triangle"] = "correlations with their diagonal"
            else:
                column = _fixed(column, half * (half - 1) // 2, pa.float32())
        elif name.endswith(("_coefficients", "_coefficient_errors")):
            column = _fixed(column, half, pa.float64() if name.endswith("ts") else pa.float32())
        elif name != "source_id":
            column = _scalar(name, column)
        arrays.append(column)
        fields.append(pa.field(name, column.type))
    if sizes["bp"] != sizes["rp"] or 55 not in sizes.values():
        learned["xp_coefficients"] = sizes
    return pa.table(arrays, schema=pa.schema(fields))


def _without_diagonal(column: pa.ChunkedArray, size: int) -> pa.Array:
    values, valid = _rows(column, size * (size + 1) // 2)
    return _lists(values[:, _below(size)], valid, pa.float32())


def _below(size: int) -> NDArray[np.int64]:
    """Places of the strictly lower triangle within a lower triangle with its diagonal."""
    i, j = np.tril_indices(size, -1)
    return np.asarray(i * (i + 1) // 2 + j, np.int64)


def _from_covariances(column: pa.ChunkedArray, size: int) -> tuple[pa.Array, pa.Array]:
    """Errors and correlations of a lower triangle of covariances, row by row."""
    values, valid = _rows(column, size * (size + 1) // 2)
    i, j = np.tril_indices(size, -1)
    diagonal = np.arange(size) * (np.arange(size) + 3) // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(values[:, diagonal])
        correlation = values[:, _below(size)] / (error[:, i] * error[:, j])
    return _lists(error, valid, pa.float32()), _lists(correlation, valid, pa.float32())


def _rows(column: pa.ChunkedArray, size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Lists of one length as [rows, size], NaN where there is none, and which rows have one."""
    array = _fixed(column, size, pa.float64())
    valid = np.asarray(array.is_valid())
    flat = array.values.to_numpy(zero_copy_only=False)
    return flat.reshape(-1, size), valid


def _lists(values: NDArray[np.float64], valid: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    flat = pa.array(values.astype(kind.to_pandas_dtype()).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(~valid))


def _scalar(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    real = name.endswith(("_standard_deviation", "_chi_squared", "_relative_shrinking"))
    return column.cast(pa.float32() if real else pa.int64(), safe=False)


def _size(table: pa.Table, name: str) -> int:
    column = table[name]
    if not pa.types.is_list(column.type):
        return 0
    sizes = [s for s in pc.unique(pc.list_value_length(column)).to_pylist() if s]
    if len(sizes) > 1 and name.endswith("_coefficients"):
        raise BadAnswer(f"{name} of different lengths in one answer: {sizes}")
    return int(sizes[0]) if len(sizes) == 1 else 0


def _fixed(column: pa.ChunkedArray | pa.Array, size: int, kind: pa.DataType) -> pa.Array:
    """Lists as fixed-size lists with nulls."""
    if not pa.types.is_list(column.type):
        return pa.nulls(len(column), pa.list_(kind, size))
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    valid = np.asarray(array.is_valid())
    filled = np.full((len(array), size), np.nan, kind.to_pandas_dtype())
    inner = array.drop_null().flatten().to_numpy(zero_copy_only=False)
    filled[valid] = inner.reshape(-1, size)
    flat = pa.array(filled.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, size, mask=pa.array(~valid))
