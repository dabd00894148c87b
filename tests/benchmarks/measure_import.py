"""Rows a second of reading bulk text and of importing XP spectra, beside pyarrow's typed reading.

    python -m tests.benchmarks.measure_import

The tables are of the shape of Gaia's bulk files: 152 columns (three ids, 120 decimals with nulls,
27 integers, a truth, a word) and XP sampled spectra as text; the files of LAMOST and DESI are made
ones. Times are of this process's CPU, the median of seven, the kinds by turns.
"""

import io
import statistics
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.csv

from mmclip import readers
from mmclip.ids import FIRST_GAIA
from mmclip.readers import tables
from tests import made_files

ROWS, SPECTRA, REPEATS = 12000, 300, 7


def bulk() -> bytes:
    """A CSV of `ROWS` rows in the shape of gaia_source."""
    rng = np.random.default_rng(0)
    ids = FIRST_GAIA + 77 * np.arange(ROWS)
    columns = [["1636148068921376768"] * ROWS, [f'"Gaia DR3 {i}"' for i in ids], map(str, ids)]
    for _ in range(120):
        columns.append([f"{v:.12g}" if v > 0.1 else "null" for v in rng.random(ROWS)])
    columns += [map(str, rng.integers(0, 500, ROWS)) for _ in range(27)]
    columns += [["False"] * ROWS, ['"NOT_AVAILABLE"'] * ROWS]
    names = ["solution_id", "designation", "source_id", *(f"c{i}" for i in range(len(columns) - 3))]
    lines = [",".join(names), *map(",".join, zip(*columns, strict=True))]
    return ("\n".join(lines) + "\n").encode()


def sampled() -> bytes:
    """A CSV of `SPECTRA` XP sampled spectra, arrays as text."""
    flux = np.random.default_rng(1).random((SPECTRA, 343))
    lines = ["source_id,flux,flux_error"]
    for i, row in enumerate(flux):
        text = '"(' + ",".join(f"{v:.9g}" for v in row) + ')"'
        lines.append(f"{FIRST_GAIA + i},{text},{text}")
    return ("\n".join(lines) + "\n").encode()


def main() -> None:
    """Print a line a kind."""
    body, spectra = bulk(), sampled()
    lamost, desi = made_files.lamost_new(), made_files.desi()
    one_thread = pa.csv.ReadOptions(use_threads=False, block_size=64 << 20)
    kinds: dict[str, tuple[int, Callable[[], object]]] = {
        "pyarrow.csv, typed": (ROWS, lambda: pa.csv.read_csv(io.BytesIO(body), one_thread)),
        "readers.tables, CSV": (ROWS, lambda: tables.read(body)),
        "readers.tables, ECSV": (
            ROWS,
            lambda: tables.read(b"# %ECSV 1.0\n# delimiter: ','\n" + body),
        ),
        "XP sampled, CSV as a table": (SPECTRA, lambda: tables.read(spectra)),
        "LAMOST LRS": (1, lambda: readers.read(lamost, "spectra")),
        "DESI coadd, a file of targets": (1, lambda: readers.read(desi, "spectra")),
        "XP sampled, CSV as the view xp": (SPECTRA, lambda: readers.read(spectra, "xp")),
    }
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(REPEATS):
        for name, (_, work) in kinds.items():
            start = time.process_time()
            work()
            taken[name].append(time.process_time() - start)
    for name, (count, _) in kinds.items():
        print(f"{name:32} {count / statistics.median(taken[name]):9.0f} rows/s")


if __name__ == "__main__":
    main()
