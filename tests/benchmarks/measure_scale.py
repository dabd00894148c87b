"""Every stage on synthetic stars, a process each under a hard memory limit: peak memory, CPU a row.

    python -m tests.benchmarks.measure_scale run WORKSPACE LINES.jsonl 10000 100000 2000000
    python -m tests.benchmarks.measure_scale draw LINES.jsonl docs/pictures/scale.png
    python -m tests.benchmarks.measure_scale table LINES.jsonl
    python -m tests.benchmarks.measure_scale columns

The stars are synthetic: XP coefficients and magnitudes from a smooth family of three numbers a
star, with noise. They say nothing about the sky and are called modelled in every artefact.

The limit is RLIMIT_DATA (`ulimit -d`): the private memory of a process, without the pages of files
it has mapped, which the kernel takes back when it needs them. What is measured besides is the
largest RssAnon of the process and its children, read 20 times a second. Before each stage the
files are dropped from the page cache.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmclip import arrays, artifacts
from mmclip.datasets import ingest, tables
from mmclip.surveys.demo import table

SHARD = 65_536  # stars of a shard
BASES = 55
CELLS = 12 * 4**12  # of order 12, as a Gaia source_id counts them
VIEWS = ("objects", "xp_coefficients", "metadata")
# RLIMIT_DATA would charge for the stacks of idle threads and the 1 GiB that Arrow reserves.
PLAIN = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1",
         "MIMALLOC_ARENA_EAGER_COMMIT": "0"}  # fmt: skip
HELD_MB = "64"
TRAIN = ("--epochs", "1", "--batch", "512", "--set", "generator_epochs=0", "--set", "dimension=32",
         "--set", "width=64", "--set", "depth=1", "--set", "self_contrast=0",
         "--set", "reconstruction=0")  # fmt: skip
MADE = {"preprocess": "data/sky", "train": "runs/sky", "embed": "vectors/sky",
        "index": "indexes/sky", "train-decoder": "decoders/sky"}  # fmt: skip
# Times the limit of the others. FAISS takes 285 MiB in advance, whatever the number of stars; the
# comparison of a decoder with baselines 250 MB; index, k-NN and outliers hold rows of all stars.
WIDER = {"train-decoder": 1.5, "index": 2, "knn": 2, "outliers": 2}


def stars(first, count, seed=0):
    """Rows `first` to `first + count` of the synthetic sky: a table a view."""
    chance = np.random.default_rng((seed, first))
    family = np.random.default_rng(seed)
    three = chance.uniform(-1, 1, (count, 3))
    terms = np.column_stack([three, three**2, three[:, :1] * three[:, 1:]])
    fall = 0.3 / (1 + np.arange(BASES)) ** 1.5
    bright = 10 ** (-0.4 * (chance.uniform(9, 17, count) - 13))  # G mag about 13
    xp = {}
    for band in ("bp", "rp"):
        shape = terms @ family.normal(size=(terms.shape[1], BASES)) * fall
        shape[:, 0] = 1 + 0.2 * np.tanh(shape[:, 0])
        error = 2e-3 * np.sqrt(1 / bright)[:, None] * np.linspace(1, 0.5, BASES)
        value = shape + error * chance.normal(size=shape.shape)
        value[:, 0] = np.maximum(value[:, 0], 0.1)
        xp[f"{band}_coefficients"] = 100 * bright[:, None] * value
        xp[f"{band}_coefficient_errors"] = (100 * bright[:, None] * error).astype(np.float32)
    g = 13 - 2.5 * np.log10(bright)
    colour = 1 + three[:, 0] + 0.2 * three[:, 1]
    magnitudes = {"phot_g_mean_mag": g, "j_m": g - colour, "h_m": g - 1.3 * colour,
                  "ks_m": g - 1.4 * colour + 0.1 * three[:, 2]}  # fmt: skip
    cells = (np.arange(first, first + count, dtype=np.int64) * 7919 + 1) % CELLS
    ids = cells << 35  # one star a HEALPix cell: 7919 has no factor in common with CELLS
    place = {"ra": chance.uniform(0, 360, count), "dec": chance.uniform(-90, 90, count)}
    return {
        "objects": table({"source_id": ids, **place}),
        "xp_coefficients": table({"source_id": ids, **xp}),
        "metadata": table({"source_id": ids, **{n: v.astype("f4") for n, v in magnitudes.items()}}),
    }


def make(final, rows):
    """Stream a raw artefact of so many synthetic stars to disk, a shard at a time."""
    starts = range(0, rows, SHARD)
    with artifacts.building(final) as folder:
        for view in VIEWS:
            (folder / view).mkdir()
        for first in starts:
            for view, rows_of in stars(first, min(SHARD, rows - first)).items():
                tables.write(folder / view / f"{first // SHARD:05d}.parquet", rows_of)
        received = (
            ingest._lines(tables.read(file, ["source_id"])["source_id"], view, "received")
            for view in VIEWS
            for file in sorted((folder / view).iterdir())
        )
        tables.write_pieces(folder / "ledger.parquet", received)
        (folder / "queries.adql").write_text("")
        survey = {"name": "synthetic", "release": "0", "title": "SYNTHETIC stars", "citations": []}
        return artifacts.seal(
            folder, "raw", config={"survey": "synthetic", "rows": rows}, parents=[],
            rows=dict.fromkeys(VIEWS, rows) | {"missing": 0}, surveys=[survey],
            provenance={"xp_coefficients": "modelled", "metadata": "modelled"}, seed=0,
            notes={"synthetic": "made stars for measuring cost; MODELLED, not observed"},
        )  # fmt: skip


def commands(workspace):
    """The stages, each as the words after `mmclip`."""
    query = str((7919 * 3 + 1) << 35)
    w = ["--workspace", str(workspace)]
    ask = ["search", "--query-id", query, "--json", "--from", "xp", *w]
    spectra = ["--from", "metadata", "--to", "xp", "--vectors", "sky", *w]
    lists = ["--factory", "IVF4096,Flat", "--part-rows", "500000", "--sample", "200000"]
    return {
        "preprocess": ["preprocess", "--raw", "sky", "--name", "sky", "--workers", "1", *w],
        "train": ["train", "--data", "sky", "--name", "sky", *TRAIN, *w],
        "embed": ["embed", "--run", "sky", *w],
        "search": [*ask, "--to", "xp"],
        "search, other view": [*ask, "--to", "metadata"],
        "index": ["index", "--add", *lists, *w],
        "knn": ["knn", "--target", "dec", "--modality", "xp", "--index", "sky", "--json", *w],
        "train-decoder": ["train-decoder", *spectra, "--epochs", "1", "--name", "sky"],
        "generate, 1/16": ["generate", *spectra, "--all", "--shard", "16/16", "--name", "sky"],
        "outliers": ["outliers", "--index", "sky", "--json", *w],
    }


def anonymous(pid):
    """Bytes of private memory of a process and of all it has started."""
    total = 0
    for one in [pid, *(_children(pid) if pid != "self" else ())]:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            total += 1024 * next(int(s.split()[1]) for s in lines if s.startswith("RssAnon"))
    return total


def _children(pid):
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(p) for p in (task / "children").read_text().split()]
    return found + [g for c in found for g in _children(c)]


class Watch:
    """The largest private memory of a process from here on."""

    def __init__(self, pid, every=0.05):
        self.pid, self.every, self.peak, self.over = pid, every, 0, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self):
        while not self.over.wait(self.every):
            self.peak = max(self.peak, anonymous(self.pid))

    def stop(self):
        self.over.set()
        self.thread.join()
        return self.peak


def cold(folder):
    """Drop the files under a folder from the page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def size(folder):
    """Bytes of the files under a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def limited(words, limit, environment):
    """Run `mmclip WORDS` under RLIMIT_DATA (MB; 0: none): wall s, CPU s, peak private bytes."""

    def confine():
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit * 2**20, limit * 2**20))

    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "mmclip", *words], env=os.environ | PLAIN | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=confine,
    )  # fmt: skip
    watch = Watch(process.pid)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out, err = process.communicate()
    peak, after = watch.stop(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"mmclip {' '.join(words)}: exit {process.returncode}\n{err[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return out, {"seconds": time.monotonic() - begun, "cpu": cpu, "peak": peak}


def measure(workspace, rows, limit):
    """Every stage on so many stars: one line each."""
    begun = time.process_time()
    if not (workspace / "raw" / "sky").is_dir():
        make(workspace / "raw" / "sky", rows)
        yield {"rows": rows, "stage": "made", "cpu": time.process_time() - begun}
    environment = {"MMCLIP_HELD_MB": HELD_MB}
    for stage, words in commands(workspace).items():
        if stage in MADE and (workspace / MADE[stage]).is_dir():
            continue
        cold(workspace)
        load = os.getloadavg()[0]
        here = int(limit * WIDER.get(stage, 1))
        out, found = limited(words, here, environment)
        if stage.startswith("search"):
            assert len(out.splitlines()) == 10, out
        sizes = {p.name: size(p) for p in sorted(workspace.iterdir())}
        yield {"rows": rows, "stage": stage, "limit MB": here, **found, "load": load,
               "bytes": sizes}  # fmt: skip


def columns(rows=SHARD):
    """A view of synthetic stars written in three ways: bytes and CPU microseconds a star."""
    raw_values = arrays.column(stars(0, rows)["xp_coefficients"], "bp_coefficients")
    values = ((raw_values - raw_values.mean(axis=0)) / raw_values.std(axis=0)).astype("f4")
    lists = arrays.fixed(np.hstack([values, values[::-1]]))
    errors = arrays.fixed(np.abs(np.hstack([values[::-1], values])) / 100)
    view = pa.table({"source_id": pa.array(np.arange(rows)), "values": lists, "errors": errors})
    plain = {"compression": "zstd", "write_page_checksum": True}
    ways = {"dictionaries tried first (pyarrow's default)": plain,
            "no dictionaries": plain | {"use_dictionary": False},
            "mmclip": tables.encoding(view.schema)}  # fmt: skip
    for name, how in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "view.parquet"
            begun = time.process_time()
            pq.write_table(view, file, row_group_size=tables.GROUP, **how)
            wrote = time.process_time()
            assert tables.read(file).equals(view)
            read = time.process_time()
            yield {"columns": name, "bytes": file.stat().st_size / rows,
                   "write": 1e6 * (wrote - begun) / rows,
                   "read": 1e6 * (read - wrote) / rows}  # fmt: skip


def table_of(lines):
    """The lines as a table of Markdown: CPU a star and peak of each stage, files at the end."""
    sizes = sorted({line["rows"] for line in lines})
    told = {(line["stage"], line["rows"]): line for line in lines}
    yield "| stage | " + " | ".join(f"{n:,}" for n in sizes) + " |"
    yield "|---|" + "---|" * len(sizes)
    for stage in dict.fromkeys(line["stage"] for line in lines):
        cells = []
        for n in sizes:
            line = told.get((stage, n))
            text = f"{line['cpu']:,.1f} s, {1e6 * line['cpu'] / n:,.1f} µs" if line else ""
            cells.append(
                text + (f", {line['peak'] / 1e6:,.0f} MB" if line and "peak" in line else "")
            )
        yield f"| {stage} | " + " | ".join(cells) + " |"
    whole = {line["rows"]: sum(line["bytes"].values()) for line in lines if "bytes" in line}
    yield "| files | " + " | ".join(f"{whole.get(n, 0) / 1e9:,.2f} GB" for n in sizes) + " |"


def draw(lines, picture):
    """CPU microseconds a row, and peak private memory, of each stage against the rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    timed = [line for line in lines if "peak" in line]
    limits = [line["limit MB"] for line in timed]
    for number, stage in enumerate(dict.fromkeys(line["stage"] for line in timed)):
        mine = sorted((line["rows"], line) for line in timed if line["stage"] == stage)
        rows, style = [n for n, _ in mine], {"marker": "osv^D"[number % 5], "ms": 5, "label": stage}
        left.plot(rows, [1e6 * a["cpu"] / n for n, a in mine], **style)
        right.plot(rows, [a["peak"] / 2**20 for _, a in mine], **style)
    left.set(xscale="log", yscale="log", xlabel="synthetic stars", ylabel="CPU µs a star")
    limit = max(set(limits), key=limits.count)
    right.axhline(limit, color="black", lw=0.8, ls="--", label=f"limit, {limit} MiB")
    whole = {line["rows"]: sum(line["bytes"].values()) / 2**20 for line in timed}
    right.plot(list(whole), list(whole.values()), "k:", label="all files on disk")
    right.set(xscale="log", yscale="log", xlabel="synthetic stars", ylabel="peak private MiB")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.suptitle("Cost of each stage on modelled (synthetic) stars, start-up included")
    figure.savefig(picture, dpi=110)


def main():
    parser = argparse.ArgumentParser()
    words = parser.add_subparsers(dest="what", required=True)
    run = words.add_parser("run")
    run.add_argument("workspace", type=Path)
    run.add_argument("lines", type=Path)
    run.add_argument("--limit", type=int, default=1024, help="MB of RLIMIT_DATA a process")
    run.add_argument("rows", type=int, nargs="+")
    shown = words.add_parser("draw")
    shown.add_argument("lines", type=Path)
    shown.add_argument("picture", type=Path)
    words.add_parser("table").add_argument("lines", type=Path)
    words.add_parser("columns")
    asked = parser.parse_args()
    if asked.what == "columns":
        for line in columns():
            print(json.dumps(line))
        return
    if asked.what in ("draw", "table"):
        lines = [json.loads(line) for line in asked.lines.read_text().splitlines()]
        if asked.what == "draw":
            draw(lines, asked.picture)
        else:
            print("\n".join(table_of(lines)))
        return
    for rows in asked.rows:
        here = asked.workspace / str(rows)
        for line in measure(here, rows, asked.limit):
            print(json.dumps(line), flush=True)
            with asked.lines.open("a") as file:
                file.write(json.dumps(line) + "\n")
        shutil.rmtree(here)


if __name__ == "__main__":
    main()
