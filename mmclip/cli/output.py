"""Printing: tables for people, JSON lines for pipes, files for other programs."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from mmclip.artifacts.workspace import Workspace, default_root
from mmclip.errors import UsageError, visible

Row = dict[str, Any]
SHOWN = 40  # rows of a table on a terminal


def workspace(root: Path | None) -> Workspace:
    """The workspace named on the command line, or the default one."""
    return Workspace(root or default_root())


def say(text: str) -> None:
    """A line of progress, on standard error, so that pipes stay clean."""
    print(visible(text), file=sys.stderr, flush=True)


def cell(value: Any) -> str:
    """A value for people: ids whole, other numbers to four digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return "-" if value is None else visible(str(value))


def plain(row: Row) -> Row:
    """A row for JSON: ids as text (a float would lose their digits), NaN as null."""
    ready: Row = {}
    for key, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            ready[key] = None
        elif key.endswith("_id") and isinstance(value, int):
            ready[key] = str(value)
        else:
            ready[key] = value
    return ready


def rows(
    answers: list[Row], title: str, as_json: bool, output: Path | None,
    short: list[Row] | None = None,
) -> None:  # fmt: skip
    """Print a table (or JSON lines) and write it to a file if one is named.

    Args:
        answers: The whole table, for the file and for JSON.
        title: Heading on a terminal.
        as_json: One JSON object a line instead of a table.
        output: File to write, or None.
        short: What to show on a terminal instead of `answers`.
    """
    if output is not None:
        write(answers, output)
        say(f"wrote {len(answers)} rows to {output}")
    if as_json:
        for row in answers:
            print(json.dumps(plain(row)))
        return
    table((short or answers)[:SHOWN], title)
    if len(answers) > SHOWN:
        say(f"... and {len(answers) - SHOWN} rows more (-o FILE or --json gives all)")


def table(answers: list[Row], title: str) -> None:
    """A table on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    names = list(dict.fromkeys(key for row in answers for key in row))
    made = Table(header_style="bold")
    for name in names:
        numeric = all(isinstance(r.get(name), int | float | None) for r in answers)
        made.add_column(
            Text(visible(name)),
            justify="right" if numeric else "left",
            no_wrap=name.endswith("_id"),
        )
    for row in answers:
        made.add_row(*(Text(cell(row.get(name))) for name in names))
    if title:
        console.print(Text(visible(title), "bold cyan"), soft_wrap=True)
    console.print(made)


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


def write(answers: Any, path: Path) -> None:
    """Write rows (or an Arrow table) to a file by its suffix; whole or not at all."""
    if path.suffix == ".json":
        _replace(path, lambda p: _lines(answers, p))
        return
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    if isinstance(answers, pa.Table):
        made, names = answers, answers.column_names
    else:
        names = list(dict.fromkeys(key for row in answers for key in row))
        made = pa.table({n: [row.get(n) for row in answers] for n in names})
    if path.suffix == ".parquet":
        _replace(path, lambda p: pq.write_table(made, p))
    elif path.suffix == ".csv":
        safe = made.rename_columns([harmless(n) for n in names])
        for place, field in enumerate(safe.schema):
            if pa.types.is_string(field.type):
                words = [None if w is None else harmless(w) for w in safe[place].to_pylist()]
                safe = safe.set_column(place, field.name, pa.array(words, pa.string()))
        _replace(path, lambda p: pa.csv.write_csv(safe, p))
    elif path.suffix in (".fits", ".vot", ".ecsv"):
        from astropy.table import Table

        columns = {n: np.array(made[n].to_pylist()) for n in names}
        kinds = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv"}
        kind = kinds[path.suffix]
        _replace(path, lambda p: Table(columns).write(p, format=kind, overwrite=True))
    else:
        raise UsageError(
            f"'{path.suffix}' of {path} is no table format", ".csv .parquet .fits .vot .ecsv .json"
        )


def _lines(answers: Any, path: Path) -> None:
    """JSON lines of rows, or of an Arrow table some rows at a time, its nulls left out."""
    with path.open("w", encoding="utf-8") as file:
        if isinstance(answers, list):
            file.writelines(json.dumps(plain(row)) + "\n" for row in answers)
            return
        for batch in answers.to_batches(65_536):
            for row in batch.to_pylist():
                known = {n: v for n, v in row.items() if v is not None}
                file.write(json.dumps(plain(known)) + "\n")


def _replace(path: Path, make: Any) -> None:
    from mmclip.artifacts import whole

    with whole(path) as part:
        make(part)


def modelled(provenance: dict[str, str]) -> None:
    """Say which views are modelled, if any are."""
    from mmclip import artifacts

    made = artifacts.modelled(provenance)
    if made:
        say(f"note: {', '.join(made)} is MODELLED data, not observed")
