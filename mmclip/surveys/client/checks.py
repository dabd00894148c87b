"""Is a body what it should be? Damaged: `BadAnswer`, asked again. Hostile: refused at once."""

import gzip
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from mmclip.errors import IntegrityError
from mmclip.readers import files
from mmclip.surveys.client.http import BadAnswer

MEMBERS = 100_000  # of one archive
UNPACKED = 8_000_000_000  # bytes of one archive or gzip stream
RATIO = 2000  # of unpacked to packed; zeros deflate to about 1030
BLOCK = 1 << 20
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def safe_key(text: str) -> str:
    """An id that may become part of a URL or a file name.

    Raises:
        IntegrityError: If it is path-like or holds anything but letters, digits and `._+-`.
    """
    if not KEY.fullmatch(text) or ".." in text:
        raise IntegrityError(f"'{text[:60]}' cannot be the id of an object", "mend the catalogue")
    return text


def safe_name(name: str) -> str:
    """The name of an archive member that stays inside.

    Raises:
        IntegrityError: If it leads out (absolute, `..`, a drive, a backslash).
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        raise IntegrityError(
            f"an archive holds the name '{name[:80]}', which leads out of it",
            "it was not unpacked; tell the service",
        )
    return name


def archive(path: Path) -> None:
    """A zip file: names inside, sizes sane, every CRC right."""
    try:
        with zipfile.ZipFile(path) as held:
            members(held.infolist())
            bad = held.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        if isinstance(error, IntegrityError):
            raise
        raise BadAnswer(f"not a whole zip file ({type(error).__name__})") from error
    except (NotImplementedError, RuntimeError) as error:
        raise BadAnswer(f"a zip file that cannot be read: {error}") from error
    if bad is not None:
        raise BadAnswer(f"the CRC of {bad} in the zip file is wrong")


def members(listed: list[zipfile.ZipInfo]) -> None:
    """Names that stay inside, and sizes that are sane.

    Raises:
        IntegrityError: If the archive is hostile.
    """
    if len(listed) > MEMBERS:
        raise IntegrityError(f"an archive of {len(listed)} members is refused", "ask for less")
    total = 0
    for member in listed:
        if member.filename:
            safe_name(member.filename)
        total += member.file_size
        if total > UNPACKED or member.file_size > RATIO * max(member.compress_size, 1000):
            raise IntegrityError(
                f"'{member.filename[:60]}' would unpack to {member.file_size} bytes: refused",
                "a decompression bomb, or ask for less",
            )


def gzipped(path: Path) -> None:
    """A gzip stream: its magic, its CRC, and a sane size."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            raise BadAnswer("not a gzip file")
    packed, size = path.stat().st_size, 0
    try:
        with gzip.open(path) as stream:
            while block := stream.read(BLOCK):
                size += len(block)
                if size > UNPACKED * 10 or size > RATIO * max(packed, 1000):
                    raise IntegrityError(
                        f"{packed} bytes of gzip unpack to more than {size}: refused",
                        "a decompression bomb",
                    )
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BadAnswer(f"not a whole gzip file ({type(error).__name__})") from error


def votable(path: Path) -> None:
    """A whole VOTable without a document type: entities are refused, whatever they expand to."""
    with path.open("rb") as file:
        head = file.read(2000)
        if b"\0" in head or not re.match(rb"(\xef\xbb\xbf)?\s*<(\?xml|VOTABLE)", head):
            raise BadAnswer("not a VOTable")
        file.seek(0)
        tail, last = b"", b""
        while block := file.read(BLOCK):
            if re.search(rb"<!\s*(DOCTYPE|ENTITY)", tail + block, re.IGNORECASE):
                raise IntegrityError(
                    "a VOTable with a document type or entities is refused", "tell the service"
                )
            tail, last = block[-20:], (last + block)[-200:]
    if not last.rstrip().endswith(b"</VOTABLE>"):
        raise BadAnswer("a VOTable that stops before its end")


def csv(path: Path) -> None:
    """A CSV table that ends with a whole line and has as many cells everywhere as in its header."""
    import csv as reader

    body = path.read_bytes()
    if not body.endswith(b"\n"):
        raise BadAnswer("a CSV file that stops in the middle of a line")
    lines = (x for x in body.decode("utf-8-sig", "replace").splitlines() if x and x[0] != "#")
    widths = {len(row) for row in reader.reader(lines)}
    if len(widths) > 1:
        raise BadAnswer("a CSV file with lines of different lengths")


def fits(path: Path) -> None:
    """A FITS file, gzipped or not, whose blocks are whole and whose sums, if it has any, fit."""
    import warnings

    try:
        body = files.body(path)
        if not body.startswith(b"SIMPLE  ="):
            raise BadAnswer("not a FITS file")
        with files.fits_units(body) as units, warnings.catch_warnings():
            warnings.simplefilter("error")
            for unit in units:
                _ = unit.data
    except IntegrityError as error:
        if "unpacks from" in error.message:
            raise
        raise BadAnswer(f"damaged FITS ({error.message})") from error
