"""Opening files that may be damaged or hostile: sizes are checked before memory is taken.

Nothing here runs what a file holds: pickles and object arrays are refused, entities of XML are
never expanded, and a file that says it is larger than it is, or unpacks to far more than it
weighs, is refused in one sentence.
"""

import contextlib
import contextvars
import gzip
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmclip.errors import IntegrityError, MmclipError, NotFound, UsageError

Source: TypeAlias = Path | str | bytes | BinaryIO

LIMIT = 8 << 30  # bytes that one file may take in memory
FREE = 64 << 20  # bytes below which a packed file may unpack by any factor
RATIO = 100  # times its own size that a larger one may unpack to; FITS and tables reach 2-30
HEAPED = re.compile(r"[01]?[PQ]([A-Z])")  # TFORM of arrays of any length
WIDTHS = {"A": 1, "L": 1, "B": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16}
MEMBERS = 10_000  # arrays of a .npz file
CELLS = 2**30  # values in one Parquet file: its footer may state any number
ENDINGS = (
    ".gz", ".fits", ".fit", ".csv", ".ecsv", ".tsv", ".xml", ".vot", ".votable", ".dat", ".txt",
    ".parquet", ".arrow", ".jpeg", ".jpg", ".png", ".npz", ".json", ".hdf5", ".h5",
)  # fmt: skip
MAGIC = (
    (b"PAR1", "parquet"), (b"PARE", "parquet"), (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"SIMPLE  =", "fits"), (b"ARROW1", "arrow"), (b"PK\x03\x04", "npz"), (b"\x93NUMPY", "npy"),
    (b"\xff\xd8\xff", "jpeg"), (b"\x89PNG", "png"), (b"# %ECSV", "ecsv"),
)  # fmt: skip


class Loaded(bytes):
    """The unpacked bytes of a file that still know its name, and its table once it was read."""

    name: str = "the file"
    table: pa.Table | None = None


def label(source: Source) -> str:
    """The name of a file in messages."""
    if isinstance(source, str | Path):
        return Path(source).name
    return Path(str(getattr(source, "name", "the file"))).name


def stem(source: Source) -> str:
    """The name of a file without its endings; what its only object is called."""
    name = label(source)
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def body(source: Source) -> Loaded:
    """The bytes of a file, unpacked if it is gzip.

    Raises:
        NotFound: If there is no such file.
        IntegrityError: If it cannot be read, is cut short, or unpacks to absurdly much.
    """
    if isinstance(source, Loaded):
        return source
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | Path):
        path = Path(source)
        try:
            if path.stat().st_size > LIMIT:
                raise IntegrityError(f"{path.name} is larger than {LIMIT >> 30} GiB", "split it")
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"there is no file {path}", "mmclip import FILE... --as VIEW") from None
        except OSError as error:
            if isinstance(error, MmclipError):
                raise
            raise IntegrityError(f"{path} cannot be read: {error.strerror}") from error
    else:
        data = source.read()
    name = label(source)
    loaded = Loaded(_gunzip(data, name) if data[:2] == b"\x1f\x8b" else data)
    loaded.name = name
    return loaded


def _gunzip(packed: bytes, name: str) -> bytes:
    most = min(LIMIT, max(FREE, RATIO * len(packed)))
    out = io.BytesIO()
    try:
        with gzip.open(io.BytesIO(packed), "rb") as file:
            while chunk := file.read(1 << 20):
                out.write(chunk)
                if out.tell() > most:
                    raise IntegrityError(
                        f"{name} unpacks from {len(packed)} to more than {most} bytes",
                        "this is no survey file; unpack it yourself if you trust it",
                    )
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, MmclipError):
            raise
        raise IntegrityError(f"{name} is not whole: {error}", "download it again") from error
    except Exception as error:  # zlib.error has no public base
        raise IntegrityError(f"{name} is not whole: {error}", "download it again") from error
    return out.getvalue()


def kind(data: bytes, name: str) -> str:
    """What a file is, by its first bytes: parquet, fits, votable, csv, ...

    Raises:
        UsageError: For a pickle, which could run anything, and for a page of HTML.
    """
    for magic, found in MAGIC:
        if data.startswith(magic):
            return found
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    lower = head[:512].lower()
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise UsageError(
            f"{name} is a pickle, which can run any program when it is read; it is not opened",
            "write the table as .parquet, .fits or .csv",
        )
    if lower.startswith((b"<!doctype html", b"<html", b"<meta")):
        raise IntegrityError(f"{name} is an HTML page, not data", "download it again, logged in")
    if lower.startswith((b"<?xml", b"<votable", b"<vosource", b"<!doctype votable")):
        return "votable"
    if head[:1] in (b"{", b"["):
        return "json"
    if data.startswith(b"\xff\xff\xff\xff"):
        return "arrow"  # a stream, as the folders of `datasets` hold
    if b"\0" in data[:4096]:
        raise IntegrityError(f"{name} is of no format that mmclip knows", "see docs/formats.md")
    if not head:
        raise IntegrityError(f"{name} is empty", "download it again")
    return "text"


# What the libraries warn of, in words of ours; "": no news, for the reason beside it.
WORDS = (
    (r"did not parse as .* unit|[Uu]nit .* not supported|Invalid unit string", ""),  # `units` says
    (r"DATASUM|CHECKSUM|[Cc]hecksum", ""),  # `_summed` refuses
    (r"'datfix'|'obsfix'|'unitfix'|'spcfix'", ""),  # dates and places of a header are not used
    (r"(invalid value|divide by zero|overflow) encountered in (?!cast)", ""),  # NaN is meant there
    (r"encountered in cast", "a number lies beyond the type that its column states"),
    (r"truncated|smaller than the expected size", "the file may be cut short"),
    (r"converting to IntType in column (\S+),", r"\1: whole numbers beyond 64 bits, kept as text"),
    (r"dubious year", "dates in years for which UTC is not defined"),
    (r"\b([WE]\d\d): ([^(]*)", r"the VOTable departs from its standard (\1, \2)"),
)
OF_PROGRAMS = (
    DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning,
)  # fmt: skip
_notes: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("notes", default=None)


@contextlib.contextmanager
def hearing() -> Iterator[list[str]]:
    """What libraries warn of while files are read, in words of ours."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note_warnings(caught: Sequence[warnings.WarningMessage]) -> None:
    """Keep what libraries warned of for whoever listens (`hearing`)."""
    notes = _notes.get()
    for warning in caught if notes is not None else ():
        note = in_our_words(str(warning.message))
        if note and notes is not None and not issubclass(warning.category, OF_PROGRAMS):
            notes += [note] if note not in notes else []


def in_our_words(message: str) -> str:
    """What a warning of a library means for the file; "" for what is no news.

    >>> in_our_words("?:3:0: W06: Invalid UCD 'x' (word)")
    "the VOTable departs from its standard (W06, Invalid UCD 'x')"
    """
    for pattern, words in WORDS:
        match = re.search(pattern, message)
        if match:
            return match.expand(words).replace(" )", ")").strip()
    return "the reading library says: " + " ".join(message.split()).replace(";", ",")[:160]


@contextlib.contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Turn whatever a parser raises into one sentence about the file."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        note_warnings(caught)
    except MmclipError:
        raise
    except MemoryError as error:
        raise IntegrityError(f"{name} asks for more memory than there is") from error
    except Exception as error:  # every parser has its own exceptions
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise IntegrityError(
            f"{name} is not a whole {what} file: {text}", "get it again"
        ) from error


@contextlib.contextmanager
def fits_units(source: Source, compressed: bool = False) -> Iterator["list[Any]"]:
    """The HDUs of a FITS file, each checked to lie inside the file.

    Args:
        source: The file.
        compressed: Whether tile-compressed images may be among them, as the tables that they are
            stored as; `unpacked` gives their pixels.

    Raises:
        IntegrityError: If it is damaged, cut short, or states sizes that it does not have.
    """
    from astropy.io import fits

    data = body(source)
    name = label(data)
    if not data.startswith(b"SIMPLE"):
        kind(data, name)  # says what it is instead
        raise IntegrityError(f"{name} is not a FITS file", "download it again")
    with reading(name, "FITS"):
        opened = fits.open(
            io.BytesIO(data), memmap=False, lazy_load_hdus=False, disable_image_compression=True
        )
        with opened as units:
            for unit in units:
                _inside(unit, len(data), name)
                _in_heap(unit, name)
                if unit.header.get("ZIMAGE") and not compressed:
                    raise IntegrityError(
                        f"{name} is a tile-compressed image", f"funpack {name}, then repeat"
                    )
                _summed(unit, name)
            yield list(units)


def _inside(unit: object, size: int, name: str) -> None:
    info = unit.fileinfo()  # type: ignore[attr-defined]
    header = unit.header  # type: ignore[attr-defined]
    # Counted anew from the header: a negative or absurd NAXIS must not reach an allocation.
    axes = [int(header.get(f"NAXIS{i + 1}", 0)) for i in range(int(header.get("NAXIS", 0)))]
    count = 1 if axes else 0
    for axis in axes:
        count *= axis
    heap = int(header.get("PCOUNT", 0)) if "XTENSION" in header else 0
    stated = abs(int(header.get("BITPIX", 8))) // 8 * (count + heap)
    if min(axes, default=0) < 0 or info["datLoc"] + stated > size:
        raise IntegrityError(
            f"{name} states {'x'.join(map(str, axes))} values in {unit.name or 'an HDU'}, "  # type: ignore[attr-defined]
            f"more than its {size} bytes hold",
            "it is cut short or damaged: download it again",
        )


def _in_heap(unit: Any, name: str) -> None:
    """Refuse arrays of any length (TFORM P, Q) that do not lie in the heap, or fill it often.

    Raises:
        IntegrityError: If a descriptor points elsewhere, or all state far more than there is.
    """
    header = unit.header
    forms = [str(header.get(f"TFORM{i + 1}", "")) for i in range(int(header.get("TFIELDS", 0)))]
    found = {i: m for i, form in enumerate(forms) if (m := HEAPED.match(form.strip()))}
    if not found:
        return
    rows = int(header["NAXIS1"]) * int(header["NAXIS2"])
    room = int(header["PCOUNT"]) + rows - int(header.get("THEAP", rows))
    table, stated = unit.data.view(np.ndarray), 0
    for i, match in found.items():
        count, start = table[table.dtype.names[i]].reshape(-1, 2).astype(np.float64).T
        size = np.ceil(count * WIDTHS.get(match[1], 0.125))
        if ((count < 0) | (count > 0) & ((start < 0) | (start + size > room))).any():
            raise IntegrityError(
                f"{name}: an array of {unit.columns.names[i]} lies outside the file",
                "it is damaged: download it again",
            )
        stated += int(size.sum())
    if stated > max(FREE, RATIO * room):
        raise IntegrityError(
            f"{name} states {stated} bytes of arrays in {room} bytes", "it is damaged or hostile"
        )


def unpacked(unit: Any, name: str) -> Any:
    """The pixels of an image HDU, tile-compressed or not.

    Raises:
        IntegrityError: If a compressed one states absurdly many pixels.
    """
    header = unit.header
    if not header.get("ZIMAGE"):
        return unit.data
    from astropy.io import fits

    size = abs(int(header.get("ZBITPIX", 8))) // 8
    for i in range(int(header.get("ZNAXIS", 0))):
        size *= max(0, int(header.get(f"ZNAXIS{i + 1}", 0)))
    info = unit.fileinfo()
    if size > min(LIMIT, max(FREE, RATIO * 10 * info["datSpan"])):
        raise IntegrityError(f"{name} states {size} bytes in {unit.name} once unpacked", "split it")
    file = info["file"]
    file.seek(info["hdrLoc"])
    body = file.read(info["datLoc"] - info["hdrLoc"] + info["datSpan"])
    primary = io.BytesIO()
    fits.PrimaryHDU().writeto(primary)
    with fits.open(io.BytesIO(primary.getvalue() + body), memmap=False) as again:
        return again[1].data


def _summed(unit: Any, name: str) -> None:
    """Compare the sums of an HDU that has them (FITS standard 4.0, section 4.4.2.7)."""
    for keyword, fits_it in (("DATASUM", unit.verify_datasum), ("CHECKSUM", unit.verify_checksum)):
        if keyword in unit.header and fits_it() == 0:
            raise IntegrityError(
                f"{name}: {keyword} of {unit.name or 'an HDU'} does not fit its content",
                "it was damaged or edited: download it again",
            )


def parquet(source: Source, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file as a table.

    Raises:
        IntegrityError: If it is damaged or its footer states absurdly many values.
    """
    name = label(source)
    data = body(source)
    with reading(name, "Parquet"):
        file = pq.ParquetFile(
            pa.BufferReader(data),
            page_checksum_verification=True,
            thrift_string_size_limit=64 << 20,
            thrift_container_size_limit=4 << 20,
        )
        meta = file.metadata
        # A footer in plain text is signed where columns are encrypted: to look at one of these
        # ends the process (Parquet format, modular encryption, section 5.5; 28 bytes).
        if int.from_bytes(data[-8:-4], "little") != meta.serialized_size:
            raise IntegrityError(f"{name} holds encrypted columns", "decrypt it first")
        cells = size = 0
        for i in range(meta.num_row_groups):
            for j in range(meta.num_columns):
                chunk = meta.row_group(i).column(j)
                cells, size = cells + chunk.num_values, size + chunk.total_uncompressed_size
        if cells > CELLS or size > LIMIT or meta.num_rows > CELLS:
            raise IntegrityError(
                f"{name} states {meta.num_rows} rows of {cells} values ({size} bytes unpacked)",
                f"mmclip imports up to {CELLS} values a file: split it",
            )
        return file.read(columns=columns)


def parquet_schema(source: Source) -> pa.Schema:
    """The schema of a Parquet file; nothing else of it is read.

    Raises:
        IntegrityError: If it is damaged.
    """
    with reading(label(source), "Parquet"):
        return pq.read_schema(pa.BufferReader(body(source)))


def numpy_table(source: Source) -> pa.Table:
    """The arrays of a .npz file as columns: [rows] scalars, [rows, n] lists; never pickles.

    Raises:
        IntegrityError: If it is damaged, unpacks to absurdly much, or holds objects.
    """
    import zipfile

    data, name = body(source), label(source)
    with reading(name, ".npz"):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            listed = packed.infolist()
        if len(listed) > MEMBERS:
            raise IntegrityError(f"{name} holds {len(listed)} arrays", "at most one a column")
        size = sum(member.file_size for member in listed)
        if size > min(LIMIT, max(FREE, RATIO * len(data))):
            raise IntegrityError(f"{name} unpacks from {len(data)} to {size} bytes")
        columns: dict[str, pa.Array] = {}
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                for key in arrays.files:
                    values = arrays[key]
                    values = values.astype(values.dtype.newbyteorder("="))
                    values = values.reshape(len(values), -1) if values.ndim > 1 else values
                    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
                    columns[key] = (
                        pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
                        if values.ndim == 2
                        else flat
                    )
        except ValueError as error:
            raise IntegrityError(
                f"{name} holds objects, not numbers; they are not loaded ({error})",
                "save plain arrays, or a table as .parquet",
            ) from error
        return pa.table(columns)
