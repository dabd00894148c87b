"""Gaia's bulk files: one gzipped table a range of HEALPix level 8, with MD5 sums; for millions."""

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.surveys import Piece, Step
from mmclip.surveys.client import checks
from mmclip.surveys.client.http import BadAnswer, Client
from mmclip.surveys.gaia import datalink
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.release import Product

NAME = re.compile(r"[A-Za-z]+_(\d{6})-(\d{6})\.csv\.gz")


def sums(text: str) -> dict[str, tuple[int, int, str]]:
    """`_MD5SUM.txt` as file name -> (first and last pixel of level 8, MD5)."""
    found = {}
    for line in text.splitlines():
        parts = line.split()
        match = NAME.fullmatch(parts[-1].lstrip("*")) if len(parts) == 2 else None
        if match and re.fullmatch(r"[0-9a-f]{32}", parts[0]):
            found[match[0]] = (int(match[1]), int(match[2]), parts[0])
    return found


def steps(
    client: Client, product: Product, ids: NDArray[np.int64], has: NDArray[np.bool_]
) -> list[Step]:
    """One step for each file that holds a wanted source."""
    base = f"{_settings.of(client).bulk.rstrip('/')}/{product.folder}"

    def listed(path: Path) -> None:
        if not sums(path.read_text(errors="replace")):
            raise BadAnswer("a list of MD5 sums without a file name")

    listing = sums(client.download(_settings.BULK, f"{base}/_MD5SUM.txt", check=listed).read_text())
    wanted, work = ids[has], []
    pixel = wanted >> 43
    covered = np.zeros(len(wanted), bool)
    for name, (low, high, md5) in sorted(listing.items(), key=lambda item: item[1]):
        inside = (pixel >= low) & (pixel <= high)
        covered |= inside
        if inside.any():
            label = f"{product.view}-{low:06d}"
            work.append(
                Step(label, _reader(client, product, f"{base}/{name}", md5, wanted[inside]))
            )
    absent = tuple((i, product.view, "not_published") for i in ids[~has].tolist())
    lost = tuple((i, product.view, "no bulk file covers it") for i in wanted[~covered].tolist())
    return [*work, Step(f"{product.view}-unpublished", lambda: Piece({}, lost, absent))]


def _reader(
    client: Client, product: Product, url: str, md5: str, ids: NDArray[np.int64]
) -> Callable[[], Piece]:
    def check(path: Path) -> None:
        import hashlib

        with path.open("rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() != md5:
                raise BadAnswer("the file does not have the MD5 sum that is listed for it")
        checks.gzipped(path)

    def get() -> Piece:
        path = client.download(_settings.BULK, url, check=check)
        wanted = {str(i) for i in ids.tolist()}
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
            table = datalink.text_table(_kept(lines, wanted))
        table, lost = _one_each(client, table, ids)
        if table.num_rows:
            table, bad = datalink.finish(table, product)
            lost |= bad
        missing = tuple((i, product.view, why) for i, why in sorted(lost.items()))
        return Piece({product.view: table} if table.num_rows else {}, missing, queries=(url,))

    return get


def _kept(lines: Iterator[str], wanted: set[str]) -> Iterator[str]:
    """The header and the lines that may hold a wanted id; the id is among the first cells."""
    header = False
    for line in lines:
        if line.startswith("#"):
            continue
        if not header or any(c in wanted for c in line[:120].split(",")[:4]):
            header = True
            yield line


def _one_each(
    client: Client, table: pa.Table, ids: NDArray[np.int64]
) -> tuple[pa.Table, dict[int, str]]:
    made = datalink.one_each(client, [table], ids.tolist())
    here = set(made["source_id"].to_pylist())
    return made, {i: "not_returned" for i in ids.tolist() if i not in here}
