"""A catalogue of labels from the bundled stars: most labels withheld, then compared with.

    python examples/catalogue.py [WORKSPACE] [METHOD]

Writes labels.fits (one row a star, opens in TOPCAT), and prints the coverage and the scatter of
the stars whose labels the head was not shown. With `auto` instead of `kernel-ridge` every head is
tried on validation stars, which takes some minutes.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from mmclip.cli import run

LABELS = ("teff", "logg", "fe_h", "alpha_m")
SHOWN = 1500  # stars whose labels are shown


def main(workspace="mmclip-catalogue", method="kernel-ridge"):
    """Fetch, prepare, predict, compare."""
    root, w = Path(workspace), ["--workspace", workspace]
    assert run(["fetch", "--survey", "demo", "--sample", "3000", "--force", *w]) == 0
    raw = next((root / "raw").iterdir())
    truth = pq.read_table(raw / "objects.parquet")
    shown = np.random.default_rng(0).permutation(len(truth))[:SHOWN]
    few = {n: np.full(len(truth), np.nan) for n in LABELS}
    for name, values in few.items():
        values[shown] = truth[name].to_numpy()[shown]
    pq.write_table(pa.table({"source_id": truth["source_id"], **few}), root / "shown.parquet")
    labels = ["--labels", str(root / "shown.parquet")]
    assert run(["preprocess", *labels, "--force", *w]) == 0
    done = run(["predict", "--target", ",".join(LABELS), "--method", method, "--force",
                "-o", str(root / "labels.fits"), *w])  # fmt: skip
    assert done == 0
    made = Table.read(root / "labels.fits")
    row = {i: n for n, i in enumerate(truth["source_id"].to_pylist())}
    at = np.array([row[i] for i in made["source_id"].tolist()])
    withheld = ~np.isin(at, shown)
    for name in LABELS:
        known = truth[name].to_numpy()[at]
        got, low, high = (np.asarray(made[name + end]) for end in ("", "_lower", "_upper"))
        use = withheld & np.isfinite(known) & np.isfinite(got)
        off = (got - known)[use]
        inside = ((low <= known) & (known <= high))[use].mean()
        nmad = 1.4826 * np.median(np.abs(off - np.median(off)))
        print(f"{name}: {use.sum()} withheld labels, NMAD {nmad:.3g}, {inside:.3f} inside 68 %")


if __name__ == "__main__":
    main(*sys.argv[1:])
