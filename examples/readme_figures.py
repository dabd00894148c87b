"""Measure every figure of README.md again and say which differ.

    python examples/readme_figures.py [--workspace DIR] [--write]

Runs `mmclip demo` (stages done before are not repeated), measures the rows of README's table, draws
docs/pictures/first_look.png again and compares both with what is there. With --write the picture
and the numbers of the table are replaced by those of this machine. Exit code 1: something differs.
"""

import argparse
import io
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmclip.results import Result, number

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
ROWS = (
    "stars, of them test stars",
    "bundled model: recall@10, XP found from photometry",
    "bundled model: R2 of Teff",
    "bundled model: R2 of log g",
    "bundled model: R2 of [M/H]",
    "bundled model: R2 of [alpha/M]",
    "recall@1: XP found from photometry",
    "recall@10: XP found from photometry",
    "R2 of Teff from XP, 13 neighbours",
    "R2 of log g from XP, 13 neighbours",
    "R2 of [M/H] from XP, 13 neighbours",
    "median error of an XP spectrum generated from photometry",
    "fraction of pixels inside the 68 % interval",
)
# On another processor weights end otherwise in their last bits, and 500 steps make that larger: two
# standard errors of a recall of 331 stars are 0.05. The baselines see no weights, except where
# the name says error.
ABSOLUTE = {"recall": 0.05, "R2": 0.05, "fraction": 0.05}
RELATIVE = {"error": 0.1}
PICTURE = 0.02  # mean |difference| of pixels (0 to 1): another star differs by more


class Figure(NamedTuple):
    """A row of the table: what the command gives and what a baseline gives."""

    value: float
    plain: float


def parse(text: str) -> dict[str, Figure]:
    """The rows of README's table by their first column.

    Raises:
        ValueError: If there is no table, or a row of it has no numbers.
    """
    match = re.search(re.escape(BEGIN) + r"(.*?)" + re.escape(END), text, re.DOTALL)
    if match is None:
        raise ValueError(f"README.md has no table between {BEGIN} and {END}")
    rows = [line for line in match[1].splitlines() if line.startswith("|")][2:]
    found = {}
    for row in rows:
        name, value, plain, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        found[name] = Figure(_number(row, value), _number(row, plain))
    return found


def _number(row: str, cell: str) -> float:
    match = re.match(r"-?[\d,]*\.?\d+", cell)
    if match is None:
        raise ValueError(f"README.md: no number in '{cell}' of the row {row}")
    return float(match[0].replace(",", ""))


def tolerance(name: str, said: float, plain: bool) -> float:
    """How far what is measured may be from what README says, beside the rounding of its digits."""
    limits = [v * abs(said) for word, v in RELATIVE.items() if word in name]
    if not plain:
        limits += [v for word, v in ABSOLUTE.items() if word in name]
    return max(limits, default=0.0)


def differences(written: dict[str, Figure], measured: dict[str, Figure]) -> list[str]:
    """Every row that is not in both, or further apart than its tolerance and its last digit."""
    found = [f"'{n}' stands in README.md and is not measured" for n in written if n not in measured]
    found += [f"'{n}' is measured and not in README.md" for n in measured if n not in written]
    for name in written.keys() & measured.keys():
        for column in Figure._fields:
            said, here = getattr(written[name], column), getattr(measured[name], column)
            allowed = tolerance(name, said, column == "plain") + _last_digit(said)
            if not abs(said - here) <= allowed:
                found.append(
                    f"'{name}', {column}: README.md says {said:g}, measured {here:.4g} "
                    f"(allowed +-{allowed:.2g})"
                )
    return sorted(found)


def _last_digit(value: float) -> float:
    """Half a unit of the third significant digit, to which README rounds."""
    return 0.0 if value == 0 else 0.5 * 10.0 ** (np.floor(np.log10(abs(value))) - 2)


def measure(workspace: Path) -> tuple[dict[str, Figure], bytes]:
    """The figures, and the picture as PNG, of the vectors of `mmclip demo` in a workspace."""
    from mmclip import plots
    from mmclip.cli.inputs import with_run
    from mmclip.report import demo
    from mmclip.tasks import generate, knn, search
    from mmclip.tasks.generate.choice import decoder_for

    space, store, data, run = with_run(workspace, "demo-3000", None)
    counts = data.artifact.manifest.rows
    found = [Figure(counts["objects"], counts["test"])]
    ready, (labels, _) = demo.bundled_store(space, "demo-3000"), demo.labels_of(space, "demo-3000")
    first = demo.first_rows(ready, data.objects, labels)
    ridge, _ = knn.table(store, data, list(demo.TARGETS), ["xp"], 13, "uniform")
    way = next(r for r in first if r["what"] == "recall@10, metadata -> xp")
    found += [Figure(number(way, "bundled model"), number(way, "of it"))]
    for target, row in zip(demo.TARGETS, first[2:], strict=True):
        found.append(Figure(number(row, "bundled model"), _r2(ridge, target, opponents=True)))
    way = next(r for r in search.recall(store) if r["direction"] == "metadata -> xp")
    found += [Figure(number(way, f"recall@{k}"), number(way, f"chance@{k}")) for k in (1, 10)]
    for target in ("teff", "logg", "fe_h"):
        found.append(Figure(_r2(ridge, target), _r2(ridge, target, opponents=True)))
    trained = decoder_for(space, run, data, ("metadata",), "xp")
    ours, *plainer = generate.compare(store, data, run, "metadata", "xp", trained=trained)
    error = "median fraction"
    found.append(Figure(ours[error], min(r[error] for r in plainer)))
    found.append(Figure(ours["in 68 %"], 0.68))
    picture = plots.png_bytes(plots.first_look_figure(demo.first_look(ready, data, labels)))
    return dict(zip(ROWS, found, strict=True)), picture


def _r2(rows: Result, target: str, opponents: bool = False) -> float:
    """R2 of the neighbours in the embedding, or of the best of their opponents on the spectrum."""
    mine = [r for r in rows if r["target"] == target]
    return max(number(r, "R2") for r in mine if str(r["method"]).startswith("k-NN") != opponents)


def unlike(before: bytes, after: bytes) -> float:
    """Mean |difference| of two PNG pictures, 0 to 1; infinite where their sizes differ."""
    from matplotlib import image

    a, b = (image.imread(io.BytesIO(body)) for body in (before, after))
    return float(np.abs(a - b).mean()) if a.shape == b.shape else float("inf")


def write(text: str, measured: dict[str, Figure]) -> str:
    """README with the numbers of its table replaced; the words of a row stay."""
    for name, figure in measured.items():
        row = re.search(rf"^\| {re.escape(name)} \|([^|]*)\|([^|]*)\|", text, re.MULTILINE)
        if row is None:
            continue
        cells = [
            re.sub(r"-?[\d,]*\.?\d+", _shown(value), cell, count=1)
            for cell, value in zip(row.groups(), figure)
        ]
        text = text.replace(row[0], f"| {name} |{cells[0]}|{cells[1]}|")
    return text


def _shown(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return np.format_float_positional(value, precision=3, fractional=False, trim="k")


def main() -> int:
    """Run the demo, measure, compare; the exit code."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--workspace", type=Path, default=Path("mmclip-work"))
    options.add_argument("--write", action="store_true", help="replace README's numbers, picture")
    given = options.parse_args()
    # README's numbers are those of one thread: sums in another order end in other last bits.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from mmclip.cli import run

    if run(["demo", "--workspace", str(given.workspace)]) != 0:
        return 1
    measured, picture = measure(given.workspace)
    readme, drawn = ROOT / "README.md", ROOT / "docs" / "pictures" / "first_look.png"
    if given.write:
        readme.write_text(write(readme.read_text(), measured))
        drawn.write_bytes(picture)
    found = differences(parse(readme.read_text()), measured)
    apart = unlike(drawn.read_bytes(), picture) if drawn.is_file() else float("inf")
    if not apart <= PICTURE:
        found.append(
            f"docs/pictures/first_look.png: mean difference {apart:.3f} (allowed {PICTURE})"
        )
    for name, figure in measured.items():
        print(f"{figure.value:10.4g} {figure.plain:10.4g}  {name}")
    print(f"{apart:10.4g} {'':10}  mean difference of the picture")
    print(
        "\n".join(found) or f"all {len(measured)} rows of README.md and its picture are reproduced"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
