"""`mmclip publish` on made vectors: time, peak memory, pixels.

    python -m tests.benchmarks.measure_publish FOLDER 1000000 [32]

Made rows: source_ids spread evenly over the sky in rising order, positions at the centres of their
cells, random unit vectors. They say nothing about the sky.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from cdshealpix.nested import healpix_to_lonlat

from mmclip.datasets import hats, tables

PIECE = 200_000 // tables.GROUP * tables.GROUP


def make(folder, count, dimension):
    """Write objects.parquet and vectors.parquet."""
    cells = 12 * 4**12
    ids = (np.arange(count, dtype=np.int64) * cells // count << 35) + 8
    random = np.random.default_rng(1)

    def vectors():
        for start in range(0, count, PIECE):
            part = ids[start : start + PIECE]
            values = random.normal(size=(len(part), dimension)).astype("f4")
            values /= np.linalg.norm(values, axis=1, keepdims=True)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dimension)
            yield pa.table({"source_id": part, "xp": lists})

    ra, dec = (a.deg for a in healpix_to_lonlat((ids >> 35).astype(np.uint64), 12))
    tables.write(folder / "objects.parquet", pa.table({"source_id": ids, "ra": ra, "dec": dec}))
    tables.write_pieces(folder / "vectors.parquet", vectors())


def measure(folder):
    """Publish in this process and say what it took."""
    began, cpu = time.monotonic(), time.process_time()
    positions = tables.read(folder / "objects.parquet")
    rows = hats.write([folder / "vectors.parquet"], folder / "hats", "made", positions)
    files = list((folder / "hats").rglob("Npix=*.parquet"))
    print(json.dumps({
        "rows": rows, "pixels": len(files), "seconds": round(time.monotonic() - began, 1),
        "cpu": round(time.process_time() - cpu, 1),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "MB": sum(f.stat().st_size for f in files) // 10**6,
    }))  # fmt: skip


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if len(sys.argv) == 2:
        measure(place)
    else:
        place.mkdir(parents=True)
        make(place, int(sys.argv[2]), int((sys.argv[3:] or ["32"])[0]))
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.measure_publish", place], check=True
        )
        shutil.rmtree(place)
