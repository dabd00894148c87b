"""Lists of ids: text, standard input, or any table astropy reads; every spelling, both releases."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmclip import ids
from mmclip.errors import MmclipError, NotFound, UsageError
from mmclip.readers import files, tables
from mmclip.surveys import Request, parse_source_id
from mmclip.surveys.names import Named

NAMES = (
    "source_id", "gaia_source_id", "dr3_source_id", "edr3_source_id", "gaia_dr3_source_id",
    "gaiaedr3_source_id", "gaia_id", "designation",
)  # fmt: skip
TARGET = re.compile(r"(?:DESI|TARGETID)\s+(\d+)", re.IGNORECASE | re.ASCII)
TABLES = (".csv", ".ecsv", ".fits", ".fit", ".gz", ".vot", ".votable", ".xml", ".parquet", ".tsv")


@dataclass(frozen=True)
class Ids:
    """What a list held.

    Attributes:
        dr3: Ids of DR3, and those without a release.
        dr2, dr4: Ids that name that release.
        repeated: How many were given more than once.
        named: Those of `dr3` that were written with their release.
    """

    dr3: tuple[int, ...] = ()
    dr2: tuple[int, ...] = ()
    repeated: int = 0
    dr4: tuple[int, ...] = ()
    named: frozenset[int] = frozenset()

    def given(self, request: Request, release: str) -> Request:
        """A request with these ids, to a survey whose own are of a release, DR3 or DR4.

        An id without a release is one of the survey's own.
        """
        if release == "DR4":
            plain = tuple(i for i in self.dr3 if i not in self.named)
            named = tuple(i for i in self.dr3 if i in self.named)
            own = (*plain, *self.dr4)
            return replace(request, ids=own, dr3_ids=named, dr2_ids=self.dr2, dr4_ids=())
        return replace(request, ids=self.dr3, dr4_ids=self.dr4, dr2_ids=self.dr2, dr3_ids=())


def joined(listed: Ids, named: list[Named]) -> Ids:
    """A list with the stars that names stand for: their DR3 ids, else those of another release."""
    three = [n.ids["DR3"] for n in named if "DR3" in n.ids]
    other = [n for n in named if "DR3" not in n.ids]
    return replace(
        listed,
        dr3=tuple(dict.fromkeys([*listed.dr3, *three])),
        dr4=tuple(dict.fromkeys([*listed.dr4, *(n.ids["DR4"] for n in other if "DR4" in n.ids)])),
        dr2=tuple(
            dict.fromkeys([*listed.dr2, *(n.ids["DR2"] for n in other if "DR4" not in n.ids)])
        ),
        named=listed.named | set(three),
    )


def parse(written: Iterable[Any]) -> Ids:
    """Ids of any spelling; those of DR2 and DR4 are kept apart, `TARGETID 123` is one of DESI's.

    Raises:
        UsageError: At the first that is no id.
    """
    three: dict[int, None] = {}
    two: dict[int, None] = {}
    four: dict[int, None] = {}
    named: set[int] = set()
    count = 0
    for one in written:
        count += 1
        release, number = ids.spelled(one) or ("", 0)
        target = TARGET.fullmatch(str(one).strip())
        if release == "DR2" and 0 < number < 2**63:
            two[number] = None
        elif release == "DR4" and 0 < number < 2**63:
            four[number] = None
        elif target:
            three[ids.local_id("desi", str(int(target[1])))] = None
        else:
            three[parse_source_id(one)] = None
            if release:
                named.add(number)
    repeated = count - len(three) - len(two) - len(four)
    return Ids(tuple(three), tuple(two), repeated, tuple(four), frozenset(named))


def read(path: Path | None) -> Ids:
    """Ids from a file, or from standard input if it is `-`.

    Raises:
        NotFound: If there is no such file.
        UsageError: If it holds no ids, or something that is none.
    """
    import sys

    if path is None:
        return Ids()
    if str(path) == "-":
        found = parse(_lines(sys.stdin.read()))
    elif not path.is_file():
        raise NotFound(f"there is no file {path}", "--ids FILE, one source_id a line")
    elif path.suffix.lower() in TABLES:
        found = parse(_table(path))
    else:
        found = parse(_lines(path.read_text(errors="replace")))
    if not (found.dr3 or found.dr2 or found.dr4):
        raise UsageError(f"{path} holds no ids", "one source_id a line, or a table with source_id")
    return found


def read_dr3(path: Path | None) -> tuple[int, ...]:
    """DR3 source_ids of a file or of standard input (`-`); order kept, repeats dropped.

    Raises:
        UsageError: If one is no DR3 id.
    """
    found = read(path)
    if found.dr2:
        parse_source_id(f"Gaia DR2 {found.dr2[0]}")
    return found.dr3


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    return [x for x in lines if x and x.lower() not in NAMES and x[0] != "#"]


def _table(path: Path) -> list[Any]:
    table = _open(path)
    lower = {name.lower(): name for name in reversed(list(table))}
    if "dr2_source_id" in lower and "source_id" not in lower:
        return [f"DR2 {v}" for v in _column(table[lower["dr2_source_id"]], "dr2_source_id")]
    for name in NAMES:
        if name in lower:
            return _column(table[lower[name]], lower[name])
    if "targetid" in lower:
        return [f"TARGETID {v}" for v in _column(table[lower["targetid"]], "targetid")]
    if len(table) == 1:
        return _column(next(iter(table.values())), next(iter(table)))
    raise UsageError(
        f"{path} has no column source_id (it has: {', '.join(table)[:200]})",
        "name the column source_id, or give the ids alone, one a line",
    )


def _open(path: Path) -> dict[str, Any]:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1] == ".parquet":
        table = files.parquet(path)
        return {n: table[n].to_pylist() for n in table.column_names}
    if ".csv" in suffixes or ".tsv" in suffixes:
        return _delimited(path, "\t" if ".tsv" in suffixes else ",")
    try:
        read = tables.read(path)
    except UsageError:
        raise
    except MmclipError as error:
        raise UsageError(
            f"{path} cannot be read as a table: {error.message}",
            "give .csv .ecsv .fits .vot .parquet or text",
        ) from error
    return {n: read[n].to_pylist() for n in read.column_names}


def _delimited(path: Path, delimiter: str) -> dict[str, Any]:
    """A CSV as text: one empty cell must not turn ids into floats."""
    import csv
    import gzip

    opened = gzip.open if path.suffix == ".gz" else open
    with (
        files.reading(path.name, "text"),
        opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file,
    ):
        rows = list(csv.reader((x for x in file if x[:1] != "#"), delimiter=delimiter))
    if not rows:
        return {}
    if any(re.fullmatch(r"\D*\d{5,}\s*", cell) for cell in rows[0]):  # no header
        return {str(i): [r[i] for r in rows if len(r) > i] for i in range(len(rows[0]))}
    return {
        name.strip(): [r[i].strip() for r in rows[1:] if len(r) > i]
        for i, name in enumerate(rows[0])
    }


def _column(values: Any, name: str) -> list[Any]:
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    plain = values.tolist() if hasattr(values, "tolist") else list(values)
    if mask is not None:
        plain = [v for v, m in zip(plain, mask, strict=True) if not m]
    plain = [v.decode() if isinstance(v, bytes) else v for v in plain]
    if any(isinstance(v, float) for v in plain):
        raise UsageError(
            f"the column {name} holds floats: the last digits of its ids are lost",
            "write the column as int64 or text",
        )
    return [v for v in plain if v is not None and str(v).strip() not in ("", "0", "-1", "null")]
