"""Any table as an Arrow table: Parquet, Arrow, FITS, VOTable, CSV, ECSV, columns of numbers."""

import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc

from mmclip import arrays
from mmclip.arrays import find, is_list, list_array, whole
from mmclip.errors import IntegrityError, UsageError
from mmclip.readers import files
from mmclip.readers.files import Source

MISSING = ("--", "...", "-", "---", "\N{HORIZONTAL ELLIPSIS}")  # how tables in print mark a gap
LARGE = 1 << 20  # bytes from which a text is not cut into lines
HEAD = 1 << 16  # bytes in which its comments must end
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
    data = files.body(source)
    name = files.label(data)
    if data.table is None:
        data.table = cleaned(_read(data, name, files.kind(data, name)))
    return data.table


def cleaned(table: pa.Table) -> pa.Table:
    """A table in plain types, gaps null, limits (`<15.2`) in columns of their own."""
    return limits(gaps(plain(table)))


LIMIT = r"^\s*[<>]=?\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


def limits(table: pa.Table) -> pa.Table:
    """A table whose limits are kept apart from values.

    A column of text that holds numbers and limits (`<15.2`, `> 14.5`) becomes one of numbers, null
    where there is a limit, and the limits go into `NAME_limit`, as text. A column of numbers beside
    a column of limit flags in VizieR's way (`l_NAME`: `<` or `>`) is parted likewise.
    """
    counts = Counter(table.column_names)
    for field in list(table.schema):
        name, parted = field.name, None
        if counts[name] > 1 or f"{name}_limit" in counts:
            continue
        if arrays.is_text(field.type):
            parted = _limits_in_text(table[name])
        elif f"l_{name}" in counts and not is_list(field.type):
            parted = _limits_by_flag(table[name], table[f"l_{name}"])
        if parted is None:
            continue
        numbers, apart = parted
        place = table.column_names.index(name)
        table = table.set_column(place, field.with_type(numbers.type), numbers)
        table = table.append_column(f"{name}_limit", apart)
    return table


def _limits_in_text(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray] | None:
    if not any(pc.any(pc.starts_with(column, sign)).as_py() for sign in ("<", ">", " ")):
        return None
    limit = pc.fill_null(pc.match_substring_regex(column, LIMIT), False)
    if not pc.any(limit).as_py():
        return None
    values = pc.if_else(limit, pa.scalar(None, column.type), column)
    numbers = typed(pa.chunked_array([values.cast(pa.string()).combine_chunks()]))
    if arrays.is_text(numbers.type):
        return None
    if pa.types.is_null(numbers.type):
        numbers = numbers.cast(pa.float64())
    return numbers, pc.if_else(limit, column, pa.scalar(None, column.type))


def _limits_by_flag(
    column: pa.ChunkedArray, flag: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, pa.ChunkedArray] | None:
    if not arrays.is_text(flag.type):
        return None
    limit = pc.fill_null(pc.match_substring_regex(flag, "^\\s*[<>]=?\\s*$"), False)
    if not pc.any(limit).as_py():
        return None
    text = pc.binary_join_element_wise(flag.cast(pa.string()), column.cast(pa.string()), "")
    nothing, no_text = pa.scalar(None, column.type), pa.scalar(None, pa.string())
    return pc.if_else(limit, nothing, column), pc.if_else(limit, text, no_text)


def gaps(table: pa.Table) -> pa.Table:
    """A table whose texts that only mark a gap (`--`, `...`, `-`) are nulls."""
    for i, field in enumerate(table.schema):
        if arrays.is_text(field.type):
            marks = pa.array(MISSING, field.type)
            column = table.column(i)
            if (pc.min(pc.binary_length(column)).as_py() or 0) > 3:
                continue  # all longer than a mark
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


def _read(data: bytes, name: str, found: str) -> pa.Table:
    if found == "parquet":
        return files.parquet(data)
    if found == "arrow":
        with files.reading(name, "Arrow"):
            return arrow(data, name)
    if found == "npz":
        return files.numpy_table(data)
    if found == "fits":
        with files.fits_units(data) as units:
            return fits_tables(units, name)
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
    if data.startswith(b"ARROW1"):
        file = pa.ipc.open_file(pa.BufferReader(data))
        batches = [file.get_batch(n) for n in range(file.num_record_batches)]
        schema = file.schema
    else:
        stream = pa.ipc.open_stream(pa.BufferReader(data))
        batches, schema = list(stream), stream.schema
    rows = sum(batch.num_rows for batch in batches)
    if rows > files.CELLS:
        raise IntegrityError(f"{name} states {rows} rows", f"up to {files.CELLS} are read")
    table = pa.Table.from_batches(batches, schema)
    table.validate(full=True)
    return table


def plain(table: pa.Table) -> pa.Table:
    """A table in the types that readers know, with the units that its schema states elsewhere.

    Dictionaries, views and large texts become text; decimals become integers where they are
    whole, else floats; unsigned integers become signed ones, or text where they are too large.
    Astropy's Parquet files state units in their schema: they go to the columns.
    """
    units = _yaml_units(table)
    for i, field in enumerate(table.schema):
        wanted = _plain_type(field.type)
        column = table.column(i)
        metadata = dict(field.metadata or {})
        if field.name in units and b"unit" not in metadata:
            metadata[b"unit"] = units[field.name].encode()
        if pa.types.is_unsigned_integer(field.type):
            top = pc.max(column).as_py() or 0
            wanted = pa.string() if top >= 2**63 else pa.int64()
        elif pa.types.is_decimal(field.type) and field.type.scale <= 0:
            wanted = pa.int64() if field.type.precision <= 18 else _whole_type(column)
        if wanted != field.type:
            column = column.cast(wanted)
        if wanted != field.type or metadata != dict(field.metadata or {}):
            made = pa.field(field.name, wanted, metadata=metadata or None)
            table = table.set_column(i, made, column)
    return table


def _whole_type(column: pa.ChunkedArray) -> pa.DataType:
    top = max(map(abs, (pc.max(column).as_py() or 0, pc.min(column).as_py() or 0)))
    return pa.int64() if top < 2**63 else pa.string()


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_float16(kind):
        return pa.float32()
    if isinstance(kind, pa.ListViewType | pa.LargeListViewType):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _plain_type(kind.value_type)
        made = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return kind if inner == kind.value_type else made(inner)
    return kind


def _yaml_units(table: pa.Table) -> dict[str, str]:
    """The units of a Parquet file of astropy's (`table_meta_yaml`)."""
    text = (table.schema.metadata or {}).get(b"table_meta_yaml", b"").decode(errors="replace")
    found = re.findall(r"name: ([^,}\n]+?),[^{}\n]*?unit: ([^,}\n]+)", text)
    found += [(n, u) for u, n in re.findall(r"unit: ([^,}\n]+), [^{}\n]*?name: ([^,}\n]+)", text)]
    return {n.strip(" '\""): u.strip(" '\"") for n, u in found}


def fits_tables(units: Sequence[Any], name: str) -> pa.Table:
    """The tables of a FITS file as one: those of as many rows as the first are set beside it.

    Where both have a column of ids, the rows are matched by it, and a table of other objects is
    passed over; a column that is there already is not taken twice.

    Raises:
        IntegrityError: If it holds no table.
    """
    found = [u for u in units if getattr(u, "columns", None) is not None]
    if not found:
        raise IntegrityError(f"{name} holds no table", "--as spectra or --as image?")
    table = fits_table(found[0])
    about = {} if units[0] is found[0] else header(units[0])
    about |= header(found[0])
    for unit in found[1:]:
        if len(unit.data) != table.num_rows or table.num_rows < 2:
            continue
        more = fits_table(unit)
        same = [n for n in more.column_names if find(table, [n]) is not None]
        named = next((t for t in same if re.search(r"id$", t, re.IGNORECASE)), None)
        if named is not None:
            order = pc.index_in(whole(table, str(find(table, [named]))), whole(more, named))
            if order.null_count or len(pc.unique(order)) < len(order):
                continue  # of other objects
            more = more.take(order)
        for title in more.column_names:
            if title not in same:
                table = table.append_column(more.schema.field(title), more[title])
    return table.replace_schema_metadata({"header": json.dumps(about)})


def header(unit: Any) -> dict[str, Any]:
    """The words and numbers of a FITS header, without those that describe its columns."""
    return {
        key: value
        for key, value in unit.header.items()
        if isinstance(value, str | int | float)
        and key not in ("COMMENT", "HISTORY", "")
        and not re.match(r"(T(TYPE|FORM|UNIT|DISP|NULL|SCAL|ZERO|DIM|UCD|UTYP)\d+|NAXIS)", key)
        and value == value
    }


def fits_table(unit: Any) -> pa.Table:
    """A FITS table: native byte order, blanks of text stripped, TNULL as null.

    TNULL is of the value as it is stored, before TSCAL and TZERO (FITS standard 4.0, 7.3.2).
    """
    data, fields, arrays = unit.data, [], []
    stored = data.view(np.ndarray)
    for number, column in enumerate(unit.columns):
        raw = stored[stored.dtype.names[number]] if stored.dtype.names else None
        if "P" in str(column.format).upper() or "Q" in str(column.format).upper():
            values = _heap(unit, column, raw)
            array = _fits_column(data[column.name] if values is None else values, None)
        else:
            values = np.asarray(data[column.name])
            array = _fits_column(values, _absent(raw, column.null, values))
        metadata = {"unit": str(column.unit)} if column.unit else {}
        for key in ("TUCD", "TUTYP"):
            stated = unit.header.get(f"{key}{number + 1}")
            if stated:
                metadata[{"TUCD": "ucd", "TUTYP": "utype"}[key]] = str(stated)
        fields.append(pa.field(column.name, array.type, metadata=metadata or None))
        arrays.append(array)
    _no_duplicates([f.name for f in fields])
    return pa.table(arrays, schema=pa.schema(fields))


def _absent(raw: Any, null: object, values: np.ndarray) -> np.ndarray | None:
    """Where a column of fixed width holds its TNULL."""
    if null is None or null == "" or raw is None:
        return None
    if raw.dtype.kind in "SU":  # an ASCII table
        words = np.char.strip(raw.astype(str))
        return np.asarray((words == str(null).strip()) | (words == ""))
    if raw.dtype.kind not in "iu":
        return None
    mask = np.asarray(raw) == int(str(null))
    return mask.reshape(values.shape) if mask.size == values.size else None


def _heap(unit: Any, column: Any, raw: Any) -> np.ndarray | None:
    """Arrays of any length that have TSCAL, TZERO or TNULL; None where none are declared.

    Integers with the TZERO of an unsigned type stay integers.
    """
    number = unit.columns.names.index(column.name) + 1
    scale, zero = unit.header.get(f"TSCAL{number}", 1), unit.header.get(f"TZERO{number}", 0)
    null = unit.header.get(f"TNULL{number}")
    match = re.search(r"[PQ]([A-Z])", str(column.format))
    kinds = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
    if match is None or match[1] not in kinds or (scale == 1 and zero == 0 and null is None):
        return None
    info = unit.fileinfo()
    file, kind = info["file"], np.dtype(kinds[match[1]])
    heap = int(unit.header.get("THEAP", unit.header["NAXIS1"] * unit.header["NAXIS2"]))
    file.seek(info["datLoc"] + heap)
    size = unit.header["NAXIS1"] * unit.header["NAXIS2"] + unit.header["PCOUNT"]
    body = file.read(int(size) - heap)
    out = np.empty(len(raw), object)
    for row, (count, start) in enumerate(np.asarray(raw).reshape(-1, 2).astype(np.int64)):
        if count < 0 or start < 0 or start + count * kind.itemsize > len(body):
            raise IntegrityError(f"an array of {column.name} lies outside the file", "get it again")
        values = np.frombuffer(body, kind, int(count), int(start))
        whole_ = kind.kind in "iu" and scale == 1 and float(zero).is_integer()
        made: np.ndarray
        if whole_ and abs(int(zero)) < 2**62:
            made = values.astype(np.int64) + int(zero)
        elif whole_:
            made = values.astype(np.uint64) ^ np.uint64(2**63)
        else:
            made = values.astype(np.float64) * float(scale) + float(zero)
        if null is not None and (values == int(null)).any():
            made = np.where(values == int(null), np.nan, made.astype(np.float64))
        out[row] = made
    return out


def _no_duplicates(names: Sequence[str]) -> None:
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(
            f"two columns are called '{twice[0]}': which is meant cannot be known",
            "rename one of them in the file",
        )


def _fits_column(values: np.ndarray, absent: np.ndarray | None) -> pa.Array:
    if values.dtype == object:  # variable-length arrays
        native = [np.asarray(v).astype(np.asarray(v).dtype.newbyteorder("=")) for v in values]
        kinds = {v.dtype for v in native if v.dtype.kind in "iufb"}
        kind = np.result_type(*kinds) if kinds else np.dtype("f8")
        return list_array(native, pa.from_numpy_dtype(kind))
    if values.dtype.kind in "SU":
        flat = np.char.strip(values.astype(str))
        return pa.array(flat.tolist() if flat.ndim == 1 else [" ".join(v) for v in flat])
    values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "c":
        return pa.array([str(v) for v in values])
    if values.ndim > 1:
        if absent is not None and absent.any():
            values = np.where(absent, np.nan, values.astype(np.float64))
        wide = values.reshape(len(values), -1)
        if wide.shape[1] == 0:
            return pa.nulls(len(values))
        flat = pa.array(np.ascontiguousarray(wide).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, wide.shape[1])
    return pa.array(values) if absent is None else pa.array(values, mask=absent)


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
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            table = parse(io.BytesIO(data), verify="warn").get_first_table()
        for warning in told:
            if re.search(r"W51|out of range", str(warning.message)):
                words = re.search(r"Value '([^']*)'.*", str(warning.message))
                raise UsageError(
                    f"{name} declares a type that is too small for what it holds: "
                    f"{words[0] if words else warning.message}",
                    "correct the datatype of that FIELD (int or long) in the file",
                )
        files.note_warnings(told)
        frames = _coosys(data)
        fields, arrays = [], []
        for column in table.fields:
            array = _masked(np.ma.asarray(table.array[column.ID]))
            metadata = {"unit": str(column.unit)} if column.unit else {}
            if column.ucd:
                metadata["ucd"] = str(column.ucd)
            if column.ref and column.ref in frames:
                metadata["frame"] = frames[column.ref]
            fields.append(pa.field(column.name, array.type, metadata=metadata or None))
            arrays.append(array)
        _no_duplicates([f.name for f in fields])
        made = pa.table(arrays, schema=pa.schema(fields))
        return made.replace_schema_metadata({"header": json.dumps(_timesys(table, data))})


def _coosys(data: bytes) -> dict[str, str]:
    """The frames of a VOTable by their ID: `FK4 B1950`."""
    found = {}
    for match in re.finditer(rb"<COOSYS\b([^>]*)>", data):
        given = dict(re.findall(r'(\w+)="([^"]*)"', match[1].decode(errors="replace")))
        system = given.get("system", "").removeprefix("eq_").upper()
        found[given.get("ID", "")] = f"{system} {given.get('equinox', '')}".strip()
    return found


def _timesys(table: Any, data: bytes) -> dict[str, Any]:
    """The zero of time of a VOTable, as the keywords of FITS would say it."""
    match = re.search(rb"<TIMESYS\b([^>]*)>", data)
    if match is None:
        return {}
    given = dict(re.findall(r'(\w+)="([^"]*)"', match[1].decode(errors="replace")))
    origin = {"JD-origin": "0", "MJD-origin": "2400000.5"}.get(
        given.get("timeorigin", ""), given.get("timeorigin", "")
    )
    found: dict[str, Any] = {"TIMESYS": given.get("timescale", "")}
    if origin:
        found["JDREF"] = float(origin)
    return found


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
    """CSV, TSV and the like, ECSV, VizieR's TSV, IPAC, CDS/MRT, or columns between blanks.

    The delimiter is a comma, semicolon, tab or bar; between semicolons a comma may be the
    decimal point. Lines that begin with # are comments wherever they stand.
    """
    with files.reading(name, "text"):
        made = _plain_csv(data)
        if made is not None:
            return made
        try:
            decoded = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            decoded = data.decode("latin-1")
        if "Byte-by-byte Description" in decoded[:20000]:
            return _astropy(decoded, "ascii.cds" if "\nNote" not in decoded else "ascii.mrt")
        if re.match(r"(\\[^\n]*\n)*\|[^\n]*\|\s*\n", decoded):
            return _astropy(decoded, "ascii.ipac")
        lines = decoded.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        notes = [line.lstrip().lstrip("#").strip() for line in lines if line.startswith("#")]
        rest = [line for line in lines if line.strip() and not line.startswith("#")]
        if not rest:
            raise IntegrityError(f"{name} has no rows", "download it again")
        if notes and notes[0].startswith("%ECSV") and not _comma(notes):
            return _ecsv(decoded.encode())
        units: dict[str, str] = {}
        delimiter = next((d for d in "\t;,|" if d in rest[0]), "")
        if ";" in rest[0] and "," in rest[0]:
            delimiter = max(";,", key=rest[0].count)
        if delimiter:
            units, rest = _vizier(rest, delimiter)
            table = _separated(rest, delimiter, notes)
        else:
            table = _blanks([line.encode() for line in rest], notes)
        return _with_units(table, units | _ecsv_units(notes), notes)


def _plain_csv(data: bytes) -> pa.Table | None:
    """A large UTF-8 text between commas whose comments all stand at its head; None for any other.

    It is what archives give in bulk, and is not taken apart line by line.
    """
    if len(data) < LARGE or data.find(b"\n#", HEAD) >= 0:
        return None
    try:
        head = data[:HEAD].rpartition(b"\n")[0].decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return None
    first = next((i for i, line in enumerate(head) if line.strip() and line[0] != "#"), len(head))
    if first > len(head) - 4 or "," not in head[first] or re.search("[\t;|]", head[first]):
        return None
    if any(x.startswith("#") for x in head[first:]) or re.fullmatch(r"[-\s,]+", head[first + 2]):
        return None
    if all(_is_number(word) for word in head[first].split(",")):
        return None  # no names
    notes = [line.lstrip("# ").strip() for line in head[:first] if line.strip()]
    if notes and notes[0].startswith("%ECSV") and not _comma(notes):
        return None
    title = head[first].encode()
    rest = pa.py_buffer(data).slice(data.index(title) + len(title))
    try:
        return _with_units(_separated([head[first]], ",", notes, rest), _ecsv_units(notes), notes)
    except pa.ArrowInvalid:  # not UTF-8, or ragged: read with care
        return None


def _with_units(table: pa.Table, units: Mapping[str, str], notes: Sequence[str]) -> pa.Table:
    for i, field in enumerate(table.schema):
        if field.name in units:
            named = field.with_metadata({"unit": units[field.name]})
            table = table.set_column(i, named, table.column(i))
    return table.replace_schema_metadata({"notes": "\n".join(notes)})


def _astropy(decoded: str, form: str) -> pa.Table:
    """A text table that astropy reads: its masked values null, its units kept."""
    from astropy.table import Table

    other = {"ascii.cds": "ascii.mrt", "ascii.mrt": "ascii.cds"}.get(form, form)
    try:
        table = Table.read(decoded, format=form)
    except Exception:  # the two differ in a detail that neither states
        table = Table.read(decoded, format=other)
    return _of_astropy(table)


def _of_astropy(table: Any) -> pa.Table:
    fields, arrays = [], []
    for title in table.colnames:
        column = table[title]
        array = _masked(np.ma.asarray(getattr(column, "value", column)))
        unit = getattr(column, "unit", None)
        metadata = {"unit": str(unit)} if unit is not None and str(unit) else None
        fields.append(pa.field(title, array.type, metadata=metadata))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def _vizier(lines: list[str], delimiter: str) -> tuple[dict[str, str], list[str]]:
    """Units and rows of a table of VizieR's, whose names are followed by units and dashes."""
    ruled = next(
        (i for i in (1, 2) if len(lines) > i and re.fullmatch(r"[-\s\t;|,]+", lines[i])
         and "--" in lines[i]), None,
    )  # fmt: skip
    if ruled is None:
        return {}, lines
    names = [n.strip() for n in lines[0].split(delimiter)]
    units = [u.strip() for u in lines[1].split(delimiter)] if ruled == 2 else []
    rows = [lines[0], *lines[ruled + 1 :]]
    return {n: u for n, u in zip(names, units, strict=False) if u}, rows


def _comma(notes: list[str]) -> bool:
    return any(re.match(r"delimiter:.*,", note) for note in notes)


def _ecsv_units(notes: list[str]) -> dict[str, str]:
    """Units that the header of an ECSV file states, in either style of its YAML."""
    if not (notes and notes[0].startswith("%ECSV")):
        return {}
    joined = "\n".join(notes).partition("meta:")[0]
    found = {}
    for part in re.split(r"(?m)^\s*-\s", joined)[1:]:
        title = re.search(r"name: *([^,}\n]+)", part)
        unit = re.search(r"unit: *([^,}\n]+)", part)
        if title and unit:
            found[title[1].strip(" '\"")] = unit[1].strip(" '\"")
    return found


def _ecsv(data: bytes) -> pa.Table:
    """ECSV between blanks, where quoted words may hold blanks."""
    from astropy.table import Table

    return _of_astropy(Table.read(io.BytesIO(data), format="ascii.ecsv"))


def _separated(
    lines: list[str], delimiter: str, notes: list[str], rest: pa.Buffer | None = None
) -> pa.Table:
    """Words between delimiters, typed column by column; `rest`: what follows a line of names."""
    parsed = pa.csv.ParseOptions(delimiter=delimiter)
    first = pa.csv.read_csv(
        io.BytesIO(lines[0].encode() + b"\n"), parse_options=parsed,
        read_options=pa.csv.ReadOptions(autogenerate_column_names=True),
        convert_options=pa.csv.ConvertOptions(strings_can_be_null=False),
    )  # fmt: skip
    names = [str(first.column(i)[0].as_py()).strip() for i in range(first.num_columns)]
    numbers = [n.replace(",", ".") if delimiter == ";" else n for n in names]
    if names and all(_is_number(n) for n in numbers):
        names = [f"col{i + 1}" for i in range(len(names))]
    else:
        lines = lines[1:]
    _no_duplicates(names)
    if not lines and rest is None:
        raise IntegrityError("a text without a row of values", "is it a table at all?")
    body = rest if rest is not None else pa.py_buffer("\n".join(lines).encode() + b"\n")
    table = _words(body, names, parsed, _decimals(body, names, parsed) if rest is not None else [])
    declared = {*_ecsv_text(notes), *(f.name for f in table.schema if not arrays.is_text(f.type))}
    decimal = delimiter in ";\t|"  # where a comma may be that of a decimal
    made = {n: table[n] if n in declared else typed(table[n], decimal) for n in table.column_names}
    return pa.table(made)


def _words(
    body: pa.Buffer, names: list[str], parsed: pa.csv.ParseOptions, decimals: Sequence[str]
) -> pa.Table:
    """The cells of a text as words, those of columns of decimals as float64 where all are."""
    kinds = {n: pa.float64() if n in decimals else pa.string() for n in names}
    try:
        return pa.csv.read_csv(
            pa.BufferReader(body), parse_options=parsed,
            read_options=pa.csv.ReadOptions(block_size=BLOCK, column_names=names),
            convert_options=csv_options(kinds, True),
        )  # fmt: skip
    except pa.ArrowInvalid:
        if not decimals:
            raise
    return _words(body, names, parsed, [])


def _decimals(body: pa.Buffer, names: list[str], parsed: pa.csv.ParseOptions) -> list[str]:
    """Columns whose first rows are numbers, not all whole: no ids."""
    start = pa.py_buffer(body.slice(0, HEAD).to_pybytes().rpartition(b"\n")[0] + b"\n")
    try:
        table = _words(start, names, parsed, [])
    except pa.ArrowInvalid:  # a quoted line break
        return []
    found = []
    for name in names:
        words = table[name].drop_null().to_pylist()
        whole_ones = [re.fullmatch(r"-?\d+", w) is not None for w in words]
        if words and not all(whole_ones) and all(_is_number(w) for w in words):
            found.append(name)
    return found


def typed(column: pa.ChunkedArray, decimal_comma: bool = False) -> pa.ChunkedArray:
    """Text as integers, floats or truths where every value is one without a loss.

    Whole numbers beyond int64 and those with leading zeros stay text: they are names.
    """
    there = pc.drop_null(column)
    if len(there) == 0:
        return pa.chunked_array([pa.nulls(len(column))])
    sample = there[:50].to_pylist()
    if {v.strip().lower() for v in sample} <= {"true", "false"}:
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        known = pc.is_in(lower, pa.array(["true", "false", None]))
        return lower.cast(pa.bool_()) if pc.all(known).as_py() else column
    if not any(re.match(r"\s*[-+]?[.,]?\d", v) or v.strip().lower() in WORDS for v in sample):
        return column
    quick = _at_once(column, sample)
    if quick is not None:
        return quick
    trimmed = pc.utf8_trim_whitespace(column)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    there = pc.drop_null(trimmed)
    if len(there) == 0:
        return column
    if pc.all(pc.match_substring_regex(there, r"^[+-]?\d+$")).as_py():
        if pc.any(pc.match_substring_regex(there, r"^[+-]?0\d")).as_py():
            return trimmed
        try:
            return pc.replace_substring_regex(trimmed, r"^\+", "").cast(pa.int64())
        except pa.ArrowInvalid:
            return trimmed
    trimmed = _fortran(trimmed)
    there = pc.drop_null(trimmed)
    if decimal_comma and pc.all(pc.match_substring_regex(there, r"^[^,]*,?[^,]*$")).as_py():
        trimmed = pc.replace_substring(trimmed, ",", ".")
    try:
        return pc.replace_substring_regex(trimmed, r"^\+", "").cast(pa.float64())
    except pa.ArrowInvalid:
        return column


def _fortran(words: pa.ChunkedArray) -> pa.ChunkedArray:
    """Words with `1.5D-16` as `1.5E-16`; `*****` and `INDEF` stand for no number and are null."""
    filled = pc.match_substring_regex(words, r"^(\*+|INDEF)$")
    words = pc.if_else(pc.fill_null(filled, False), pa.scalar(None, pa.string()), words)
    return pc.replace_substring_regex(words, r"^([+-]?[\d.]+)[dD]([+-]?\d+)$", r"\1E\2")


WORDS = ("nan", "inf", "-inf", "+inf", "infinity", "-infinity")


def _at_once(column: pa.ChunkedArray, sample: Sequence[str]) -> pa.ChunkedArray | None:
    """Text as numbers without a look at each value: for plain integers or decimals; else None."""
    if all(re.fullmatch(r"-?\d+", v) for v in sample):
        padded = pc.and_(pc.starts_with(column, "0"), pc.greater(pc.binary_length(column), 1))
        if pc.any(padded).as_py() or pc.any(pc.starts_with(column, "-0")).as_py():
            return None  # a leading zero
        kind = pa.int64()
    elif any(re.fullmatch(r"-?\d+\.\d*", v) for v in sample):
        kind = pa.float64()  # not all are whole
    else:
        return None
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None


def _ecsv_text(notes: list[str]) -> list[str]:
    """Columns that an ECSV header declares to be plain text."""
    joined = "\n".join(notes)
    return re.findall(r"name: (\S+)\s*\n\s*datatype: string\s*\n(?!\s*subtype)", joined)


def _is_number(word: str) -> bool:
    return not np.isnan(_float(word)) or word.lower() == "nan"


def _blanks(lines: list[bytes], notes: list[str]) -> pa.Table:
    cells = [line.decode(errors="replace").split() for line in lines]
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
    _no_duplicates(header)
    columns = {}
    for i, title in enumerate(header):
        words = [None if c[i] in MISSING else c[i] for c in cells]
        columns[title] = typed(pa.chunked_array([pa.array(words, pa.string())]))
    return pa.table(columns)
