"""One survey's view of a star generated from another's, from plain Parquet files.

    python examples/two_surveys.py catalina-asas FOLDER OUT
    python examples/two_surveys.py miles-stelib FOLDER OUT

FOLDER holds `css_southern.parquet` and `asas_acvs.parquet` (periodic variables seen by Catalina and
by ASAS), or `miles.parquet`, `stelib.parquet` and `pairs_miles_stelib.parquet`; OUT is a new
workspace. It shows the functions behind `mmclip train`, `embed` and `train-decoder` on views that
are no modality of mmclip.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmclip import arrays, artifacts
from mmclip.clip.run import open_run
from mmclip.clip.settings import TrainConfig
from mmclip.clip.train import train
from mmclip.datasets import split, tables
from mmclip.datasets.build import open_dataset
from mmclip.modalities import normalise, statistics
from mmclip.tasks import generate
from mmclip.tasks.embed import embed
from mmclip.tasks.generate import calibrate, decoder
from mmclip.tasks.generate.baselines import baselines
from mmclip.training.loop import silent
from mmclip.vectors.store import Store

PHASES = 32  # of a folded light curve
STEP, RANGES = 10.0, {"miles": (3600, 7400), "stelib": (3600, 9000)}  # Angstrom


def fold(time, mag, period):
    """Median magnitude in `PHASES` bins of phase over the median, the brightest bin at 0.

    The brightest place is that of a fit with three harmonics; empty bins are NaN.
    """
    phase = (time / period) % 1.0
    order = np.arange(1, 4)
    waves = [f(2 * np.pi * phase[:, None] * order) for f in (np.cos, np.sin)]
    weights = np.linalg.lstsq(
        np.concatenate([np.ones((len(phase), 1)), *waves], axis=1), mag, rcond=None
    )[0]
    grid = np.linspace(0, 1, 200, endpoint=False)
    fit = np.cos(2 * np.pi * grid[:, None] * order) @ weights[1:4]
    fit += np.sin(2 * np.pi * grid[:, None] * order) @ weights[4:]
    place = ((phase - grid[fit.argmin()] + 0.5 / PHASES) % 1.0 * PHASES).astype(int)
    binned = [np.median(mag[place == i]) if (place == i).any() else np.nan for i in range(PHASES)]
    return np.array(binned, np.float32) - np.float32(np.median(mag))


def catalina_asas(folder):
    """Folded light curves of the stars both surveys saw, and the class of each."""
    columns = ["css_id", "asas_id", "period_d", "class", "time", "mag"]
    ours = pq.read_table(folder / "css_southern.parquet", columns=columns)
    ours = ours.filter(pa.array([a is not None for a in ours["asas_id"].to_pylist()]))
    other = pq.read_table(folder / "asas_acvs.parquet", columns=["asas_id", "time", "mag"])
    place = {a: i for i, a in enumerate(other["asas_id"].to_pylist())}
    views = {"catalina": [], "asas": []}
    for row in ours.to_pylist():
        match = other.slice(place[row["asas_id"]], 1).to_pylist()[0]
        period = row["period_d"]
        for name, it in (("catalina", row), ("asas", match)):
            views[name].append(fold(np.array(it["time"]), np.array(it["mag"]), period))
    return {n: np.array(v) for n, v in views.items()}


def miles_stelib(folder):
    """Spectra in bins of 10 Angstrom over their mean at 5000-6000 Angstrom; NaN where not taken."""
    read = {n: pq.read_table(folder / f"{n}.parquet") for n in RANGES}
    starts = {"miles": (3540.5, 0.9), "stelib": (3200.0, 1.0)}
    spectra, keys = {}, {}
    for name, table in read.items():
        flux = np.array(table["flux"].to_pylist(), np.float64)
        wave = starts[name][0] + starts[name][1] * np.arange(flux.shape[1])
        flux /= np.nanmean(flux[:, (wave > 5000) & (wave < 6000)], axis=1, keepdims=True)
        edges = np.arange(*RANGES[name], STEP)
        inside = [(wave >= e) & (wave < e + STEP) for e in edges]
        with np.errstate(all="ignore"):
            spectra[name] = np.stack([np.nanmean(flux[:, i], axis=1) for i in inside], axis=1)
        keys[name] = table["star_key"].to_pylist()
    stars = sorted(set(keys["miles"]) | set(keys["stelib"]))
    views = {}
    for name in RANGES:
        row = {k: i for i, k in enumerate(keys[name])}
        empty = np.full(spectra[name].shape[1], np.nan)
        views[name] = np.array([spectra[name][row[s]] if s in row else empty for s in stars], "f4")
    return views


def write_data(folder, views):
    """A data artefact of two views, as docs/formats.md lays it out."""
    count = len(next(iter(views.values())))
    ids = (np.arange(count, dtype=np.int64) + 1) << 43  # a cell of the sky each
    parts = split.assign(ids)
    with artifacts.building(folder) as made:
        tables.write(made / "objects.parquet", pa.table({"source_id": ids, "split": parts}))
        for name, values in views.items():
            seen = np.isfinite(values).any(axis=1)
            by = statistics(values[(parts == "train") & seen], "mad")
            rows = {"source_id": pa.array(ids[seen])}
            rows["values"] = arrays.fixed(np.clip(normalise(values[seen], by), -10, 10))
            tables.write(made / f"{name}.parquet", pa.table(rows))
            about = {"centre": by.centre.tolist(), "scale": by.scale.tolist(), "method": "mad"}
            body = json.dumps(about | {"size": [values.shape[1]]})
            (made / f"{name}.statistics.json").write_text(body)
        artifacts.seal(
            made, "data", config={}, parents=[], rows={"objects": count}, surveys=[],
            provenance=dict.fromkeys(views, "observed"), seed=42,
        )  # fmt: skip
    return artifacts.read(folder)


def score(store, data, start, to, name, root):
    """Train one decoder and print it beside the baselines, on test stars."""
    pairs = generate.pairs(store, data, (start,), to)
    settings = decoder.DecodeConfig(start=(start,), to=to, decoder=name, epochs=100, batch=64)
    parents = [store.artifact.reference]
    place = root / "decoders" / f"{start}-{to}-{name}"
    made = decoder.open_decoder(decoder.train(pairs, settings, place, parents, [], silent))
    values, scale = pairs.view.values, pairs.view.statistics.scale
    both = np.isfinite(pairs.vectors[:, 0]) & pairs.view.present
    asked = np.flatnonzero(both & (pairs.split == "test"))
    mean, sigma = decoder.predict(made, pairs.vectors[asked])
    z = (values[asked] - mean) / sigma
    covered = [calibrate.coverage(made.calibration, z, p) for p in (0.68, 0.95)]
    raw = np.nan_to_num(data.views[start].values[generate.places(store, data)])
    guesses = {f"decoder {name}": mean}
    guesses |= baselines(pairs.vectors, raw, values, pairs.split, both, asked, 13)
    counts = [int((both & (pairs.split == s)).sum()) for s in split.SPLITS]
    print(f"{start} -> {to}: {counts} train, validation, test stars with both")
    for method, guess in guesses.items():
        off = np.nanmedian(np.abs(guess - values[asked]) * scale)
        extra = f"  in 68 %: {covered[0]:.3f}  in 95 %: {covered[1]:.3f}" if guess is mean else ""
        print(f"  {method:34} median |residual| {off:.4f}{extra}")


def main(kind, folder, root):
    """Align the two surveys, then generate each from the other."""
    views = {"catalina-asas": catalina_asas, "miles-stelib": miles_stelib}[kind](folder)
    data = open_dataset(write_data(root / "data" / kind, views))
    settings = TrainConfig(encoders=("mlp", "mlp"), dimension=32, width=128, epochs=60,
                           generator_epochs=1, batch=64)  # fmt: skip
    made = train(data, settings, root / "runs" / kind, silent, False)
    with artifacts.building(root / "vectors" / kind) as place:
        embed(data, open_run(made), place)
    store = Store(artifacts.read(root / "vectors" / kind))
    one, two = views
    names = ("flow", "lightcurve") if kind == "catalina-asas" else ("flow", "mlp")
    for start, to in ((one, two), (two, one)):
        for name in names:
            score(store, data, start, to, name, root)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
