"""Any table as an Arrow table: Parquet, Arrow, FITS, VOTable, CSV, ECSV, columns of numbers."""

import io
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc

from mmclip import arrays
from mmclip.arrays import list_array
from mmclip.errors import IntegrityError
from mmclip.readers import files
from mmclip.readers.files import Source

MISSING = ("--", "...", "-", "---", "\N{HORIZONTAL ELLIPSIS}")  # how tables in print mark a gap
BLOCK = 64 << 20  # bytes of CSV read at once; a row of XP correlations has 60,000


def read(source: Source) -> pa.Table:
    """A file as a table; the format is found from its first bytes.

    Args:
        source: A path, the bytes, or an open binary file; gzip is unpacked.

    Returns:
        A table with the names as they stand in the file; units in the field metadata where the
        file has them. `schema.metadata[b"notes"]` holds the comment lines of a text file.

    Raises:
        NotFound: If there is no such file.
        UsageError, IntegrityError: If it is no table, damaged or hostile (see `files`).
    """
    return gaps(_read(files.body(source)))


def gaps(table: pa.Table) -> pa.Table:
    """A table whose texts that only mark a gap (`--`, `...`, `-`) are nulls."""
    for i, field in enumerate(table.schema):
        if arrays.is_text(field.type):
            marks = pa.array(MISSING, field.type)
            column = table[field.name] if table.column_names.count(field.name) == 1 else table[i]
            hidden = pc.is_in(pc.utf8_trim_whitespace(column), marks)
            if pc.any(hidden).as_py():
                known = pc.if_else(hidden, pa.scalar(None, field.type), column)
                table = table.set_column(i, field, known)
    return table


def csv_options(types: dict[str, pa.DataType], texts: bool) -> pa.csv.ConvertOptions:
    """How words of a CSV file become values; `texts`: an empty text is a null."""
    known = pa.csv.ConvertOptions().null_values
    return pa.csv.ConvertOptions(
        column_types=types, null_values=[*known, *MISSING], strings_can_be_null=texts
    )


def _read(data: bytes) -> pa.Table:
    name = files.label(data)
    found = files.kind(data, name)
    if found == "parquet":
        return files.parquet(data)
    if found == "arrow":
        with files.reading(name, "Arrow"):
            return arrow(data, name)
    if found == "npz":
        return files.numpy_table(data)
    if found == "fits":
        with files.fits_units(data) as units:
            tables = [u for u in units if getattr(u, "columns", None) is not None]
            if not tables:
                raise IntegrityError(f"{name} holds no table", "--as spectra or --as image?")
            return fits_table(tables[0])
    if found == "votable":
        return votable(data, name)
    if found in ("text", "ecsv"):
        return text(data, name)
    raise IntegrityError(f"{name} is {found}, not a table", "see docs/formats.md")


def arrow(data: bytes, name: str) -> pa.Table:
    """An Arrow file whose buffers state no more than an absurd size once unpacked.

    Raises:
        IntegrityError: If one does, or the file is damaged.
    """
    file = pa.ipc.open_file(pa.BufferReader(data))
    rows = sum(file.get_batch(n).num_rows for n in range(file.num_record_batches))
    if rows > files.CELLS:
        raise IntegrityError(f"{name} states {rows} rows", f"up to {files.CELLS} are read")
    table = file.read_all()
    table.validate(full=True)
    return table


def fits_table(unit: object) -> pa.Table:
    """A FITS binary table: native byte order, blanks of text stripped, TNULL as null."""
    data, fields, arrays = unit.data, [], []  # type: ignore[attr-defined]
    for column in unit.columns:  # type: ignore[attr-defined]
        values = np.asarray(data[column.name])
        array = _fits_column(values, column.null)
        metadata = {"unit": str(column.unit)} if column.unit else None
        fields.append(pa.field(column.name, array.type, metadata=metadata))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def _fits_column(values: np.ndarray, null: object) -> pa.Array:
    if values.dtype == object:  # variable-length arrays
        native = [np.asarray(v).astype(np.asarray(v).dtype.newbyteorder("=")) for v in values]
        kind = next((v.dtype for v in native if v.dtype.kind in "iufb"), np.dtype("f8"))
        return list_array(native, pa.from_numpy_dtype(kind))
    if values.dtype.kind in "SU":
        flat = np.char.strip(values.astype(str))
        return pa.array(flat.tolist() if flat.ndim == 1 else [" ".join(v) for v in flat])
    values = values.astype(values.dtype.newbyteorder("="))
    if values.ndim > 1:
        wide = values.reshape(len(values), -1)
        if wide.shape[1] == 0:
            return pa.nulls(len(values))
        flat = pa.array(np.ascontiguousarray(wide).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, wide.shape[1])
    if isinstance(null, int) and values.dtype.kind in "iu":
        return pa.array(values, mask=values == null)
    return pa.array(values)


def votable(data: bytes, name: str) -> pa.Table:
    """A VOTable (its first table), or the VOSOURCE light curves of ASAS, which are nearly one.

    Times that a file declares `float` are kept in double precision where they stand as text.

    Raises:
        IntegrityError: If it declares entities, which could expand without end, or is damaged.
    """
    guard_xml(data, name)
    if b"<VOSOURCE" in data[:2000]:
        return vosource(data, name)
    from astropy.io.votable import parse

    with files.reading(name, "VOTable"):
        table = parse(io.BytesIO(data), verify="ignore").get_first_table()
        fields, arrays = [], []
        for column in table.fields:
            array = _masked(np.ma.asarray(table.array[column.ID]))
            metadata = {"unit": str(column.unit)} if column.unit else None
            fields.append(pa.field(column.name, array.type, metadata=metadata))
            arrays.append(array)
        return pa.table(arrays, schema=pa.schema(fields))


def _masked(values: np.ma.MaskedArray) -> pa.Array:
    mask = np.ma.getmaskarray(values)
    plain = np.ma.getdata(values)
    if plain.dtype == object:
        if any(isinstance(v, np.ndarray) for v in plain):
            rows = [
                np.asarray(np.ma.filled(np.ma.asarray(v).astype(float), np.nan), float)
                for v in plain
            ]
            return list_array([r if len(r) else None for r in rows], pa.float64())
        return pa.array([None if m else str(v) for v, m in zip(plain, mask, strict=True)])
    if plain.dtype.kind in "SU":
        return pa.array(plain.astype(str).tolist())
    if plain.ndim > 1:
        wide = plain.reshape(len(plain), -1).astype(float)
        wide[mask.reshape(len(plain), -1)] = np.nan
        return list_array(list(wide), pa.float64())
    return pa.array(plain.astype(plain.dtype.newbyteorder("=")), mask=mask)


def guard_xml(data: bytes, name: str) -> None:
    """Refuse XML that declares entities or hides behind another encoding.

    Raises:
        IntegrityError: If it does.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:256]:
        raise IntegrityError(f"{name} is XML in UTF-16, which no survey writes", "write UTF-8")
    doctype = data.find(b"<!DOCTYPE")
    internal = doctype >= 0 and b"[" in data[doctype : data.find(b">", doctype) + 1]
    if b"<!ENTITY" in data or internal:
        raise IntegrityError(
            f"{name} declares XML entities, which can expand without end; it is not read",
            "no survey's VOTable has them: download it again",
        )


def vosource(data: bytes, name: str) -> pa.Table:
    """The tables of a VOSOURCE file, one below the other; a table given twice counts once."""
    import xml.etree.ElementTree as etree

    with files.reading(name, "VOSOURCE"):
        root = etree.fromstring(data)
        seen: dict[tuple[Any, ...], pa.Table] = {}
        for table in root.iter("TABLE"):
            names = [f.get("name") or f"col{i}" for i, f in enumerate(table.iter("FIELD"))]
            cells = [[td.text or "" for td in tr.iter("TD")] for tr in table.iter("TR")]
            key = tuple(map(tuple, cells))
            if cells and key not in seen:
                columns = {n: [row[i] for row in cells] for i, n in enumerate(names)}
                made = {n: np.array([_float(v) for v in c]) for n, c in columns.items()}
                band = (table.get("name") or "").partition(":")[0]
                seen[key] = pa.table(made | {"band": [band] * len(cells)})
        if not seen:
            raise IntegrityError(f"{name} has no rows", "download it again")
        return pa.concat_tables(seen.values(), promote_options="default")


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def text(data: bytes, name: str) -> pa.Table:
    """CSV (comma or tab), ECSV, or columns between blanks with or without a header."""
    with files.reading(name, "text"):
        data = data.decode("utf-8-sig", errors="replace").encode()
        lines = data.split(b"\n")
        start = 0
        while start < len(lines) and (not lines[start].strip() or lines[start].startswith(b"#")):
            start += 1
        notes = [line.lstrip(b"#").strip().decode(errors="replace") for line in lines[:start]]
        rest = lines[start:]
        if not any(line.strip() for line in rest):
            raise IntegrityError(f"{name} has no rows", "download it again")
        if notes and notes[0].startswith("%ECSV") and not _comma(notes):
            return _ecsv(data)
        first = rest[0].decode(errors="replace")
        if "," in first or "\t" in first:
            table = _separated(b"\n".join(rest), "," if "," in first else "\t", notes)
        else:
            table = _blanks(rest, notes)
        return table.replace_schema_metadata({"notes": "\n".join(notes)})


def _comma(notes: list[str]) -> bool:
    return any(re.match(r"delimiter:.*,", note) for note in notes)


def _ecsv(data: bytes) -> pa.Table:
    """ECSV between blanks, where quoted words may hold blanks."""
    from astropy.table import Table

    table = Table.read(io.BytesIO(data), format="ascii.ecsv")
    return pa.table({n: _masked(np.ma.asarray(table[n])) for n in table.colnames})


def _separated(data: bytes, delimiter: str, notes: list[str]) -> pa.Table:
    header = pa.csv.read_csv(
        io.BytesIO(data.split(b"\n", 1)[0] + b"\n"),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
    ).column_names
    if header and all(_is_number(h) for h in header):
        data = ",".join(f"col{i + 1}" for i in range(len(header))).replace(
            ",", delimiter
        ).encode() + b"\n" + data  # fmt: skip
    declared = _ecsv_text(notes)
    return pa.csv.read_csv(
        io.BytesIO(data),
        read_options=pa.csv.ReadOptions(block_size=BLOCK),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
        convert_options=csv_options(dict.fromkeys(declared, pa.string()), True),
    )


def _ecsv_text(notes: list[str]) -> list[str]:
    """Columns that an ECSV header declares to be plain text."""
    joined = "\n".join(notes)
    return re.findall(r"name: (\S+)\s*\n\s*datatype: string\s*\n(?!\s*subtype)", joined)


def _is_number(word: str) -> bool:
    return not np.isnan(_float(word)) or word.lower() == "nan"


def _blanks(lines: list[bytes], notes: list[str]) -> pa.Table:
    cells = [line.decode(errors="replace").split() for line in lines]
    cells = [c for c in cells if c and not c[0].startswith("#")]
    header = notes[-1].split() if notes else []
    if not any(_is_number(c) for c in cells[0]):
        header, cells = cells[0], cells[1:]
    if not cells:
        raise IntegrityError("a text without a row of values", "is it a table at all?")
    width = len(cells[0])
    ragged = sum(len(c) != width for c in cells)
    if ragged:
        raise IntegrityError(f"{ragged} lines have not {width} words as the first has")
    if len(header) != width:
        header = [f"col{i + 1}" for i in range(width)]
    columns: dict[str, pa.Array] = {}
    for i, title in enumerate(header):
        words = [None if c[i] in MISSING else c[i] for c in cells]
        known = [w for w in words if w is not None]
        if all(re.fullmatch(r"[+-]?\d+", w) for w in known):
            columns[title] = pa.array([None if w is None else int(w) for w in words], pa.int64())
        elif all(_is_number(w) for w in known):
            columns[title] = pa.array([None if w is None else _float(w) for w in words])
        else:
            columns[title] = pa.array(words)
    return pa.table(columns)
