"""Lists of ids: text, standard input, or any table that `readers.tables` reads; every spelling."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmclip import arrays, ids
from mmclip.errors import NotFound, UsageError
from mmclip.readers import tables
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
        # Most are plain digits, of which a list may have millions.
        if isinstance(one, str) and one.isascii() and one.isdigit() and 0 < int(one) < 2**63:
            three[int(one)] = None
            continue
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
    """The ids of a table of any format: of DR3, else of DR2, else DESI's, else its only column."""
    table = tables.read(path)
    here = {name.lower(): name for name in reversed(table.column_names)}
    if "dr2_source_id" in here and "source_id" not in here:
        return [f"DR2 {v}" for v in _column(table, here["dr2_source_id"])]
    name = arrays.find(table, NAMES) or ids.columns(table, None)[0]
    if name is not None:
        return _column(table, name)
    if "targetid" in here:
        return [f"TARGETID {v}" for v in _column(table, here["targetid"])]
    if table.num_columns == 1:
        return _column(table, table.column_names[0])
    raise UsageError(
        f"{path} has no column source_id (it has: {', '.join(table.column_names)[:200]})",
        "name the column source_id, or give the ids alone, one a line",
    )


def _column(table: pa.Table, name: str) -> list[Any]:
    ids.not_float(table, name)
    column = table[name].to_pylist()
    if any(isinstance(v, float) for v in column):
        raise UsageError(
            f"the column {name} holds floats: the last digits of its ids are lost",
            "write the column as int64 or text",
        )
    return [v for v in column if v is not None and str(v).strip() not in ("", "0", "-1", "null")]
