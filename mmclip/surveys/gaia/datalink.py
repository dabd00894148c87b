"""Gaia spectra by DataLink: a zip of any format -> one row a source, every id accounted for."""

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmclip.errors import RemoteError
from mmclip.ids import best_rows
from mmclip.surveys.client import checks, votable
from mmclip.surveys.client.http import BadAnswer, Client, Refused, Unreachable
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.release import Product

SYNONYM = {
    "DATAMODEL_GAIA": "RAW", "RAW": "DATAMODEL_GAIA",
    "DATAMODEL_STANDARD": "INDIVIDUAL", "INDIVIDUAL": "DATAMODEL_STANDARD",
}  # fmt: skip
MOST = 5000  # ids a request
GIVE_UP = 3  # smallest chunks in a row that failed


def gather(
    client: Client, product: Product, ids: list[int], release: str, fresh: bool = False
) -> tuple[pa.Table, dict[int, str]]:
    """Spectra of many stars, and a reason for each star without one.

    A chunk that fails is halved down to `chunk_smallest`; ids that an answer leaves out are asked
    for once more by themselves.

    Raises:
        Unreachable: If the service fails at chunk after chunk.
        Refused: If it says no for good.
    """
    failures = [0]
    found: list[pa.Table] = []
    lost: dict[int, str] = {}
    _halving(client, product, ids, release, found, lost, failures, fresh)
    table = one_each(client, found, ids)
    here = set(table["source_id"].to_pylist()) if table.num_rows else set()
    again = [i for i in ids if i not in here and i not in lost]
    if again:
        client.count(f"{product.view}_asked_again", len(again))
        more: list[pa.Table] = []
        _halving(client, product, again, release, more, lost, failures, fresh)
        table = one_each(client, [*found, *more], ids)
        here = set(table["source_id"].to_pylist()) if table.num_rows else set()
    return table, {i: lost.get(i, "not_returned") for i in ids if i not in here}


def _halving(
    client: Client, product: Product, ids: list[int], release: str,
    found: list[pa.Table], lost: dict[int, str], failures: list[int], fresh: bool,
) -> None:  # fmt: skip
    try:
        found.append(ask(client, product, ids, release, fresh))
        failures[0] = 0
        return
    except Unreachable as error:
        if client.offline:
            raise
        if len(ids) <= _settings.of(client).chunk_smallest:
            failures[0] += 1
            if failures[0] >= GIVE_UP or not found:
                raise
            lost.update(dict.fromkeys(ids, f"service_failed: {error.message[-60:]}"))
            return
    client.count("chunks_halved")
    middle = len(ids) // 2
    for half in (ids[:middle], ids[middle:]):
        _halving(client, product, half, release, found, lost, failures, fresh)


def ask(
    client: Client, product: Product, ids: list[int], release: str, fresh: bool = False
) -> pa.Table:
    """One request; the structure's synonym is tried when the first is refused."""
    structure = client.learned.get("data_structure", _settings.of(client).data_structure)
    other = SYNONYM.get(structure, "")
    try:
        return _request(client, product, ids, release, structure, fresh)
    except Refused as refused:
        if not other or not re.search(r"data.?structure", refused.text, re.IGNORECASE):
            raise
    except Unreachable:
        if not other or not client.offline:  # the cache may hold the answer under the synonym
            raise
    table = _request(client, product, ids, release, other, fresh)
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
    client: Client, product: Product, ids: list[int], release: str, structure: str, fresh: bool
) -> pa.Table:
    parsed: list[pa.Table] = []
    settings = _settings.of(client)
    url = f"{settings.data}/data"
    given = form(ids, product, release, structure, settings.format)

    def check(path: Path) -> None:
        checks.archive(path)
        parsed.append(parse(path, product))

    body = client.download(_settings.DATALINK, url, form=given, check=check, fresh=fresh)
    return parsed[-1] if parsed else parse(body, product)


def parse(path: Path, product: Product) -> pa.Table:
    """The spectra inside a DataLink zip, one row a source.

    Raises:
        BadAnswer: If a member is not what its name says.
        IntegrityError: If the zip is hostile.
    """
    tables = []
    with zipfile.ZipFile(path) as held:
        for name in sorted(held.namelist()):
            if product.word in name.upper() and not name.endswith("/"):
                tables.append(_member(held.read(name), name, product))
    kept = [t for t in tables if t.num_rows]
    if not kept:
        return pa.table({"source_id": pa.array([], pa.int64())})
    return pa.concat_tables(kept, promote_options="permissive")


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
    if product.samples and "wavelength" in table.column_names:
        return _stacked(table, name)
    if "source_id" not in table.column_names:
        raise BadAnswer(f"'{name[:60]}' has no source_id")
    return table.set_column(
        table.column_names.index("source_id"), "source_id", table["source_id"].cast(pa.int64())
    )


def _stacked(table: pa.Table, name: str) -> pa.Table:
    """A file of one star, a row a sample -> one row; the id is in a column or in the name."""
    if "source_id" in table.column_names:
        source_id = int(table["source_id"][0].as_py())
    else:
        match = re.search(r"(\d+)\.\w+$", name)
        if match is None:
            raise BadAnswer(f"'{name[:60]}' names no source")
        source_id = int(match[1])
    columns: dict[str, Any] = {"source_id": pa.array([source_id], pa.int64())}
    for c in ("flux", "flux_error"):
        values = table[c].to_numpy(zero_copy_only=False).astype(np.float32)
        columns[c] = pa.array([values], pa.list_(pa.float32()))
    return pa.table(columns)


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
    """Rows asked for, one a source, rising by source_id; the rest is counted."""
    kept = [t for t in tables if t.num_rows]
    if not kept:
        return pa.table({"source_id": pa.array([], pa.int64())})
    table = pa.concat_tables(kept, promote_options="permissive")
    here = table["source_id"].to_numpy()
    first = best_rows(here)
    wanted = np.isin(here[first], np.array(ids, np.int64))
    client.count("repeated_in_answers", len(here) - len(first))
    client.count("not_asked_for", int((~wanted).sum()))
    return table.take(pa.array(first[wanted]))


def finish(table: pa.Table, product: Product) -> tuple[pa.Table, dict[int, str]]:
    """The table as it is stored, and reasons for rows that are not what they should be.

    Sampled spectra: `flux` and `flux_error` as fixed-size lists of float32. Coefficients: lists of
    the length that the answer has, errors and correlations with them; a missing half is null.
    """
    if not product.samples:
        return _coefficients(table), {}
    length = pc.list_value_length(table["flux"])
    good = pc.fill_null(pc.equal(length, product.samples), False)
    bad = table.filter(pc.invert(good))["source_id"].to_pylist()
    kept = table.filter(good)
    extra = ("solution_id", "combined_transits", "combined_ccds", "deblended_ccds")
    fields, arrays = [pa.field("source_id", pa.int64())], [kept["source_id"]]
    for name in ("flux", "flux_error"):
        meta = {"unit": product.unit, "frame": product.frame}
        fields.append(pa.field(name, pa.list_(pa.float32(), product.samples), metadata=meta))
        arrays.append(_fixed(kept[name], product.samples, pa.float32()))
    for name in (n for n in extra if n in kept.column_names):
        fields.append(pa.field(name, pa.int64()))
        arrays.append(kept[name].cast(pa.int64()))
    return pa.table(arrays, schema=pa.schema(fields)), dict.fromkeys(bad, "invalid_payload")


def _coefficients(table: pa.Table) -> pa.Table:
    sizes = {half: _size(table, f"{half}_coefficients") for half in ("bp", "rp")}
    fields, arrays = [], []
    for name in table.column_names:
        column = table[name]
        half = sizes.get(name[:2], 0) or max(sizes.values()) or 55
        if name.endswith(("_coefficients", "_coefficient_errors", "_coefficient_correlations")):
            size = half * (half - 1) // 2 if name.endswith("correlations") else half
            kind = pa.float64() if name.endswith("_coefficients") else pa.float32()
            column = _fixed(column, size, kind)
        elif name != "source_id":
            column = _scalar(name, column)
        arrays.append(column)
        fields.append(pa.field(name, column.type))
    return pa.table(arrays, schema=pa.schema(fields))


def _scalar(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    real = name.endswith(("_standard_deviation", "_chi_squared", "_relative_shrinking"))
    return column.cast(pa.float32() if real else pa.int64(), safe=False)


def _size(table: pa.Table, name: str) -> int:
    column = table[name]
    if not pa.types.is_list(column.type):
        return 0
    sizes = [s for s in pc.unique(pc.list_value_length(column)).to_pylist() if s]
    if len(sizes) > 1:
        raise BadAnswer(f"{name} of different lengths in one answer: {sizes}")
    return int(sizes[0]) if sizes else 0


def _fixed(column: pa.ChunkedArray, size: int, kind: pa.DataType) -> pa.Array:
    """Lists as fixed-size lists with nulls."""
    if not pa.types.is_list(column.type):
        return pa.nulls(len(column), pa.list_(kind, size))
    array = column.combine_chunks()
    array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    valid = np.asarray(array.is_valid())
    filled = np.full((len(array), size), np.nan, kind.to_pandas_dtype())
    inner = array.drop_null().flatten().to_numpy(zero_copy_only=False)
    filled[valid] = inner.reshape(-1, size)
    flat = pa.array(filled.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, size, mask=pa.array(~valid))
