"""Printing: tables for people, JSON lines for pipes, files for other programs."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmclip import artifacts
from mmclip.artifacts.workspace import Workspace, default_root
from mmclip.cli import log, pulse
from mmclip.errors import UsageError, visible
from mmclip.results import Picture, Result, Row, from_rows, to_table

SHOWN = 40  # rows of a table on a terminal
FORMATS = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv"}  # written by astropy


def open_workspace(root: Path | None) -> Workspace:
    """The workspace named on the command line, or the default one."""
    made = Workspace(root or default_root())
    log.into(made.root)
    return made


workspace = open_workspace  # the name that some commands still use


_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Nothing is printed within; what would be said on standard error is collected."""
    lines: list[str] = []
    token = _heard.set(lines)
    try:
        yield lines
    finally:
        _heard.reset(token)


def hears() -> bool:
    """True where a caller from Python collects what would be printed."""
    return _heard.get() is not None


def say(text: str) -> None:
    """A line of progress, on standard error, so that pipes stay clean."""
    heard = _heard.get()
    if heard is not None:
        heard.append(visible(text))
        return
    log.LOG.info("%s", text)
    if log.level.get() > log.QUIET or text.startswith(log.WARNINGS):
        pulse.wipe()
        print(visible(text), file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Text that is the answer itself, on standard output."""
    if _heard.get() is None:
        pulse.wipe()
        print(text)


def cell(value: object) -> str:
    """A value for people: ids whole, other numbers to four digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e6 else f"{value:.4g}"
    return "-" if value is None else visible(str(value))


def plain(row: Mapping[str, object]) -> dict[str, object]:
    """A row for JSON: ids as text (a float would lose their digits), NaN as null."""
    return {name: _plain(name, value) for name, value in row.items()}


def _plain(name: str, value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if name.endswith("_id") and isinstance(value, int) else value


def show(
    result: Result, as_json: bool, output: Path | None, short: Sequence[Row] | None = None,
    draw: Callable[[], Picture] | None = None,
) -> Result:  # fmt: skip
    """Print a result, its notes first, and write it to a file if one is named; returns it.

    Args:
        result: The whole answer, for the file and for JSON.
        as_json: One JSON object a line instead of a table.
        output: File to write, or None.
        short: What to show on a terminal instead of the rows.
        draw: Makes the picture of the answer, for whoever asks from Python.
    """
    answer = replace(result, draw=draw or result.draw)
    if _heard.get() is None:
        modelled(result.provenance)
        for note in result.notes:
            say(note)
    if output is not None:
        write(result, output)
        say(f"wrote {len(result)} rows to {output}")
    if as_json:
        json_lines(result)
        return answer
    table(short if short is not None else result.head(SHOWN), result.question)
    if len(result) > SHOWN and _heard.get() is None:
        say(f"... and {len(result) - SHOWN} rows more (-o FILE or --json gives all)")
    return answer


def rows(
    answers: Sequence[Mapping[str, Any]], title: str, as_json: bool, output: Path | None,
    short: Sequence[Row] | None = None,
) -> Result:  # fmt: skip
    """As `show`, of rows that are no result yet."""
    if as_json and output is None:
        json_lines(answers)
        return from_rows(answers, title)
    return show(from_rows(answers, title), as_json, output, short)


def json_lines(answers: Iterable[Mapping[str, object]]) -> None:
    """One JSON object a line, on standard output."""
    if _heard.get() is not None:
        return
    pulse.wipe()
    for row in answers:
        print(json.dumps(plain(row)))


def table(answers: Iterable[Mapping[str, object]], title: str) -> None:
    """A table on standard output: `SHOWN` rows, the columns that fit, the names of the others."""
    if _heard.get() is not None:
        return
    pulse.wipe()
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=int(os.environ.get("COLUMNS", 160)))
    shown = list(answers)[:SHOWN]
    every = list(dict.fromkeys(key for row in shown for key in row))
    same = _same(every, shown) if _width(every, shown, 0) > console.width else []
    left = [n for n in every if n not in same]
    narrow = _limit(left, shown, console.width)
    names = left
    while _width(names, shown, narrow) > console.width and len(names) > 2:
        names = names[:-1]
    made = Table(header_style="bold")
    for name in names:
        numeric = all(isinstance(r.get(name), int | float | None) for r in shown)
        made.add_column(
            Text(visible(name)),
            justify="right" if numeric else "left",
            no_wrap=name.endswith("_id"),
            max_width=narrow if narrow and not name.endswith("_id") else None,
        )
    for row in shown:
        made.add_row(*(Text(cell(row.get(name))) for name in names))
    if title:
        console.print(Text(visible(title), "bold cyan"), soft_wrap=True)
    if same:
        told = ", ".join(f"{n} {cell(shown[0].get(n))}" for n in same)
        console.print(Text(f"in every row: {told}"))
    console.print(made)
    if len(names) < len(left):
        say(f"too wide to show: {', '.join(left[len(names) :])} (-o FILE or --json has all)")


NARROW = 26  # characters of a cell, beyond which it is broken into lines where room is short


def _same(names: list[str], rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Columns that hold one value in every row of several."""
    return [n for n in names if len(rows) > 1 and len({cell(row.get(n)) for row in rows}) == 1]


def _limit(names: list[str], rows: Sequence[Mapping[str, object]], room: int) -> int:
    """Characters of a cell, beyond which it is broken into lines; 0 where all fit as they are."""
    if _width(names, rows, 0) <= room:
        return 0
    wide = [w for n in names if (w := _widest(n, rows)) > NARROW and not n.endswith("_id")]
    left = room - 1 - sum(_widest(n, rows) + 3 for n in names) + sum(wide)
    return max(NARROW, left // len(wide)) if wide else NARROW


def _widest(name: str, rows: Sequence[Mapping[str, object]]) -> int:
    return max(len(name), *(len(cell(row.get(name))) for row in rows))


def _width(names: list[str], rows: Sequence[Mapping[str, object]], narrow: int) -> int:
    """Characters that a table of these columns takes."""
    wide = [_widest(name, rows) for name in names]
    kept = [w if n.endswith("_id") or not narrow else min(w, narrow) for n, w in zip(names, wide)]
    return 1 + sum(w + 3 for w in kept)


def harmless(word: str) -> str:
    """Text for a cell of a CSV: `'` before what a spreadsheet would take for a formula.

    Source:
        OWASP, "CSV Injection": cells that begin with = + - @, a tab or a carriage return.
    """
    number = word.lstrip("+-").replace(".", "", 1).isdigit()
    return f"'{word}" if word[1:] and word[0] in "=+-@\t\r" and not number else word


def part(shard: int, shards: int) -> None:
    """Say that a shard was written, and what joins them all."""
    say(f"wrote part {shard} of {shards}; when all are there: --merge {shards}")


def write(answers: Result | pa.Table | Sequence[Row], path: Path) -> None:
    """Write a result, an Arrow table or rows to a file by its suffix; whole or not at all.

    Raises:
        UsageError: On a suffix that is none of a table.
    """
    if path.suffix == ".json":
        replace_file(path, lambda p: _write_json(answers, p))
        return
    made = answers if isinstance(answers, pa.Table | Result) else from_rows(answers)
    made = made.table if isinstance(made, Result) else made
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        replace_file(path, lambda p: pq.write_table(made, p))
    elif path.suffix == ".csv":
        import pyarrow.csv

        safe = _harmless(made)
        replace_file(path, lambda p: pyarrow.csv.write_csv(safe, p))
    elif path.suffix in FORMATS:
        replace_file(path, lambda p: _write_astropy(made, p, FORMATS[path.suffix]))
    else:
        raise UsageError(
            f"'{path.suffix}' of {path} is no table format", ".csv .parquet .fits .vot .ecsv .json"
        )


def _harmless(made: pa.Table) -> pa.Table:
    safe = made.rename_columns([harmless(n) for n in made.column_names])
    for place, field in enumerate(safe.schema):
        if pa.types.is_string(field.type):
            words = [None if w is None else harmless(w) for w in safe[place].to_pylist()]
            safe = safe.set_column(place, field.name, pa.array(words, pa.string()))
    return safe


def _write_astropy(made: pa.Table, path: Path, kind: str) -> None:
    """A file of astropy, with units; a unit that the format does not know is no reason to stop."""
    import warnings

    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        Table(to_table(made)).write(path, format=kind, overwrite=True)


def _write_json(answers: Result | pa.Table | Sequence[Row], path: Path) -> None:
    """JSON lines; of an Arrow table its nulls are left out."""
    with path.open("w", encoding="utf-8") as file:
        for row in _table_rows(answers) if isinstance(answers, pa.Table) else answers:
            file.write(json.dumps(plain(row)) + "\n")


def _table_rows(made: pa.Table) -> Iterable[Row]:
    for batch in made.to_batches(65_536):
        for row in batch.to_pylist():
            yield {n: v for n, v in row.items() if v is not None}


def replace_file(path: Path, make: Callable[[Path], object]) -> None:
    """Have a file written whole or not at all."""
    with artifacts.whole(path) as unfinished:
        make(unfinished)


def modelled(provenance: Mapping[str, str]) -> None:
    """Say which views are modelled, if any are."""
    made = artifacts.modelled(provenance)
    if made and _heard.get() is None:  # a result says so itself
        say(f"note: {', '.join(made)} is MODELLED data, not observed")
