"""Tables in the layouts that AstroM3 released, of made stars."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmclip.modalities.metadata_astrom3 import COLUMNS

CLASSES = ("DSCT", "EA", "EB", "EW", "HADS", "M", "ROT", "RRAB", "RRC", "SR")
GRID = 3850.0 + 2.0 * np.arange(2575)


def nested(rows):
    """[rows] of [n, width] as a column of lists of lists."""
    inner = [pa.array(np.asarray(r, np.float32).tolist(), pa.list_(pa.float32())) for r in rows]
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.concat_arrays(inner))


def star(rng, kind):
    """A light curve of [n, 3], its four measures, a spectrum [m, 3], and 34 columns."""
    n, period = int(rng.integers(150, 320)), float(0.3 * 1.6**kind)
    time = np.sort(rng.uniform(2_457_000, 2_458_200, n))
    flux = 10 + (1 + 0.2 * kind) * np.sin(2 * np.pi * time / period) + rng.normal(0, 0.1, n)
    curve = np.stack([time, flux, np.full(n, 0.1)], axis=1)
    measures = {
        "amplitude": 0.1 + 0.1 * kind,
        "period": period,
        "lksl_statistic": float(rng.uniform(0, 1)),
        "rfr_score": float(rng.uniform()),
    }
    wave = np.linspace(3700, 9100, 3000)
    line = np.exp(-0.5 * ((wave - 4000 - 450 * kind) / 30) ** 2)
    shape = 5 + (wave - 6000) / 4000 - 2 * line + rng.normal(0, 0.1, len(wave))
    spectrum = np.stack([wave, shape, np.full(len(wave), 100.0)], axis=1)
    columns = {name: float(rng.normal(12 + kind / 4, 0.3)) for name in COLUMNS}
    columns |= {"parallax": float(rng.uniform(0.2, 5)), "l": float(rng.uniform(0, 360)),
                "b": float(rng.uniform(-90, 90))}  # fmt: skip
    return curve, measures, spectrum, columns


def stars(count, seed=0):
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % 3  # three classes are enough
    return kinds, [star(rng, int(k)) for k in kinds]


def raw(count, seed=0):
    """The raw layout, labels as names."""
    kinds, made = stars(count, seed)
    about = [{"meta_cols": m[3], "photo_cols": m[1]} for m in made]
    return pa.table(
        {
            "photometry": nested([m[0] for m in made]),
            "spectra": nested([m[2] for m in made]),
            "metadata": pa.array(about),
            "label": [CLASSES[k] for k in kinds],
        }
    )


def channels(curve, measures):
    """The published formulas (arXiv:2411.08842, section 2 and public code), written out again."""
    t, f, e = curve.T
    mad = np.median(np.abs(f - np.median(f)))
    span = (t.max() - t.min()) / 365
    point = np.stack([(t - t.min()) / (t.max() - t.min()), (f - f.mean()) / mad, e / mad], axis=1)
    four = [measures["amplitude"], np.log10(measures["period"]), measures["lksl_statistic"],
            measures["rfr_score"]]  # fmt: skip
    return np.concatenate([point, np.tile([*four, np.log10(mad), span], (len(t), 1))], axis=1)


def processed(count, seed=0):
    """The processed layout, labels as numbers named in the schema."""
    kinds, made = stars(count, seed)
    curves = np.array([channels(m[0], m[1])[0, 3:7] for m in made])
    mean, std = curves.mean(0), curves.std(0)
    rows = []
    for m in made:
        one = channels(m[0], m[1])
        one[:, 3:7] = (one[:, 3:7] - mean) / std
        rows.append(one)
    spectra = []
    for m in made:
        f, e = (np.interp(GRID, m[2][:, 0], m[2][:, i]) for i in (1, 2))
        mad = np.median(np.abs(f - np.median(f)))
        spectra.append([(f - f.mean()) / mad, e / mad, np.full(len(f), np.log10(mad))])
    matrix = np.array([[m[3][c] for c in COLUMNS] for m in made])
    matrix = (matrix - matrix.mean(0)) / matrix.std(0)
    table = pa.table(
        {
            "photometry": nested(rows),
            "spectra": nested(spectra),
            "metadata": pa.array(matrix.tolist(), pa.list_(pa.float32())),
            "label": pa.array(kinds, pa.int64()),
        }
    )
    names = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(names)})


def release(folder, make, counts=(90, 30, 30), seed=0):
    """A configuration of the release: a file a split, as `datasets` names them."""
    folder.mkdir(parents=True)
    for i, (part, count) in enumerate(zip(("train", "validation", "test"), counts, strict=True)):
        pq.write_table(make(count, seed + i), folder / f"{part}-00000-of-00001.parquet")
    return folder
