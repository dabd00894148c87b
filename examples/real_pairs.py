"""Two views of the same variable star, of real surveys: does training find the partner?

    python examples/real_pairs.py FOLDER [asas|metadata] [epochs]
    python examples/real_pairs.py DATA libraries [epochs]
    python examples/real_pairs.py DATA correlation

FOLDER holds `css_southern/css_southern.parquet` and `asas_acvs/asas_acvs.parquet`. `asas` pairs the
Catalina and the ASAS light curve of 1,195 stars; `metadata` a Catalina light curve with the
catalogue's period, magnitude, amplitude and place. Recall on stars never trained on, beside chance
and beside a linear correlation of the two views (regularised CCA).

`libraries` takes a data artefact with two views (`spectra@miles,spectra@stelib`) and, because the
stars that both have are few, holds out a fifth of them at a time. `correlation` finds the test
objects of any data artefact between every two of its views by the linear correlation alone.
"""

import dataclasses
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mmclip import artifacts, plugins
from mmclip.clip.objective import embed_batch
from mmclip.clip.retrieval_metrics import measure
from mmclip.clip.settings import TrainConfig, model_shape
from mmclip.clip.stages import ClipTraining
from mmclip.datasets.build import Dataset, View, open_dataset
from mmclip.modalities import Lists, normalise, statistics


def curves(table, period=None):
    """The photometry view of a table with `time`, `mag` and `mag_err` lists."""
    columns = {}
    for ours, theirs in (("time", "time"), ("magnitude", "mag"), ("error", "mag_err")):
        array = table[theirs].combine_chunks()
        offsets = array.offsets.to_numpy().astype(np.int64)
        columns[ours] = Lists(array.values.to_numpy(zero_copy_only=False), offsets)
    if period is not None:
        columns["period"] = period
    settings = {"periods": "catalogue"}
    from mmclip.modalities.settings import configured

    modality = configured(plugins.load("modalities", "photometry", "MODALITY"), settings)
    return modality.prepare(columns).values, modality.size


def metadata(table):
    """log10 period, magnitude, amplitude and direction of each star [stars, 6]."""
    number = {n: table[n].to_numpy().astype(float) for n in table.column_names if "list" not in n
              and n in ("period_d", "v_css_mag", "v_amp_mag", "ra_deg", "dec_deg")}  # fmt: skip
    ra, dec = np.radians(number["ra_deg"]), np.radians(number["dec_deg"])
    amplitude = np.where(number["v_amp_mag"] > 10, np.nan, number["v_amp_mag"])
    place = (np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec))
    columns = (np.log10(number["period_d"]), number["v_css_mag"], amplitude, *place)
    return np.stack(columns, axis=1).astype("f4"), (6,)


def view(values, size, train, per_entry):
    """A normalised view; light curves are normalised star by star already."""
    by = statistics(values[train], "z" if per_entry else "none")
    return View(np.clip(normalise(values, by), -10, 10), None, by, "observed", size)


def linear(a, b, train, test, keep=32, ridge=1.0):
    """Test vectors of both views by regularised canonical correlation of the training stars."""
    a, b = (np.nan_to_num(v.astype(float)) for v in (a, b))
    turned = []
    for v in (a, b):
        off = v - v[train].mean(0)
        values, axes = np.linalg.eigh(
            off[train].T @ off[train] / len(train) + ridge * np.eye(v.shape[1])
        )
        turned.append(off @ (axes / np.sqrt(values)))
    left, strength, right = np.linalg.svd(turned[0][train].T @ turned[1][train] / len(train))
    keep = min(keep, len(strength))
    found = [t[test] @ w[:, :keep] * strength[:keep] for t, w in zip(turned, (left, right.T))]
    return [torch.tensor(f / np.linalg.norm(f, axis=1, keepdims=True)).float() for f in found]


def recall(vectors):
    """Recall and median rank both ways of two sets of vectors."""
    there = {n: torch.ones(len(v), dtype=torch.bool) for n, v in vectors.items()}
    found = measure(vectors, there)
    wanted = ("recall@1", "recall@5", "recall@10", "median", "candidates")
    return {k: round(v, 4) for k, v in found.items() if k.startswith(wanted)}


def main(folder, which="asas", epochs=60):
    """Print one JSON line a method."""
    css = pq.read_table(folder / "css_southern" / "css_southern.parquet")
    if which == "asas":
        asas = pq.read_table(folder / "asas_acvs" / "asas_acvs.parquet")
        ids = {name: i for i, name in enumerate(asas["asas_id"].to_pylist())}
        pairs = [(i, ids[n]) for i, n in enumerate(css["asas_id"].to_pylist()) if n in ids]
        css, other = css.take([i for i, _ in pairs]), asas.take([j for _, j in pairs])
        raw = {"css": curves(css), "asas": curves(other)}
    else:
        raw = {"css": curves(css), "metadata": metadata(css)}
    good = np.logical_and.reduce([np.isfinite(v).any(1) for v, _ in raw.values()])
    split = np.random.default_rng(42).choice(
        ["train", "validation", "test"], len(css), p=[0.8, 0.1, 0.1]
    )
    split = split[good]
    train, test = np.flatnonzero(split == "train"), np.flatnonzero(split == "test")
    views = {n: view(v[good], s, train, n == "metadata") for n, (v, s) in raw.items()}
    for v in views.values():
        v.values[:, ~np.isfinite(v.values[train]).any(0)] = np.nan
    encoders = {n: {"encoder": "mlp"} for n in views}
    settings = TrainConfig(
        views=encoders, epochs=epochs, generator_epochs=0, self_contrast=0.0, noise=0.0, width=256,
        dropout=0.2, weight_decay=0.2, reconstruction=0.1, checkpoint_seconds=float("inf"),
    )  # fmt: skip
    data = StarTable(split, views)
    training = ClipTraining(data, settings, model_shape(views, settings), Path("nowhere"))
    done = training.run()
    batch, _ = training.batches.batch(test)
    training.model.eval()
    with torch.no_grad():
        ours = embed_batch(training.model, batch)
    a, b = (views[n].values for n in sorted(views))
    linear_vectors = dict(zip(sorted(views), linear(a, b, train, test)))
    best = min(done, key=lambda e: e.loss).epoch
    print(json.dumps({"method": f"CLIP, weights of epoch {best}"} | recall(ours)))
    print(json.dumps({"method": "linear correlation"} | recall(linear_vectors)))
    print(json.dumps({"method": "chance"} | {f"recall@{k}": k / len(test) for k in (1, 5, 10)}))
    print(json.dumps({"training stars": len(train), "test stars": len(test)}))


def libraries(place, epochs=60, folds=5):
    """Five-fold: recall of the held-out stars among themselves, summed over folds."""
    data = open_dataset(artifacts.read(place))
    one, two = sorted(data.views)
    both = np.flatnonzero(data.views[one].present & data.views[two].present)
    fold = np.random.default_rng(42).permutation(np.arange(len(both)) % folds)
    settings = TrainConfig(
        encoders=("mlp", "mlp"), epochs=epochs, batch=64, generator_epochs=0, width=256,
        dimension=64, dropout=0.3, weight_decay=0.2, keep="last", checkpoint_seconds=float("inf"),
    )  # fmt: skip
    values = {n: np.nan_to_num(data.views[n].values) for n in (one, two)}
    ranks = {m: {} for m in ("CLIP", "linear correlation", "correlation of the spectra")}
    for k in range(folds):
        test, train = both[fold == k], both[fold != k]
        parts = np.full(len(data.split), "train", object)
        parts[test] = "test"
        where = data.objects.column_names.index("split")
        objects = data.objects.set_column(where, "split", pa.array(parts.tolist()))
        split = dataclasses.replace(data, objects=objects)
        training = ClipTraining(
            split, settings, model_shape(split.views, settings), Path("nowhere")
        )
        training.run()
        training.model.eval()
        with torch.no_grad():
            found = embed_batch(training.model, training.batches.batch(test)[0])
        raw = [data.views[n].values[test] for n in (one, two)]
        vectors = {
            "CLIP": [found[n].numpy() for n in (one, two)],
            "linear correlation": [v.numpy() for v in linear(*values.values(), train, test)],
        }
        cosines = {m: a @ b.T for m, (a, b) in vectors.items()}
        cosines["correlation of the spectra"] = correlation(data, raw, (one, two))
        for method, table in cosines.items():
            for name, c in ((f"{one} -> {two}", table), (f"{two} -> {one}", table.T)):
                ranks[method].setdefault(name, []).extend((c >= np.diag(c)[:, None]).sum(1))
    for method, directions in ranks.items():
        for name, r in directions.items():
            r = np.array(r)
            numbers = {f"recall@{k}": round(float((r <= k).mean()), 3) for k in (1, 5, 10)}
            print(json.dumps({"method": method, "direction": name} | numbers
                             | {"median rank": float(np.median(r))}))  # fmt: skip
    chance = {f"recall@{k}": round(k * folds / len(both), 3) for k in (1, 5, 10)}
    print(json.dumps({"method": "chance", "stars": len(both), "folds": folds} | chance))


def correlation(data, raw, names):
    """Pearson correlation of every two spectra over the pixels both have, in their own units."""
    own = [v * data.views[n].statistics.scale + data.views[n].statistics.centre
           for v, n in zip(raw, names)]  # fmt: skip
    found = np.zeros((len(own[0]), len(own[1])))
    for i, a in enumerate(own[0]):
        for j, b in enumerate(own[1]):
            seen = np.isfinite(a) & np.isfinite(b)
            found[i, j] = np.corrcoef(a[seen], b[seen])[0, 1]
    return found


def correlations(place):
    """Recall of the test objects between every two views by CCA; validation chooses the ridge."""
    data = open_dataset(artifacts.read(place))
    for pair in itertools.combinations(sorted(data.views), 2):
        both = np.logical_and.reduce([data.views[n].present for n in pair])
        train, checks, test = (
            np.flatnonzero(both & (data.split == s)) for s in ("train", "validation", "test")
        )
        values = [np.nan_to_num(data.views[n].values) for n in pair]
        reduced = [within(v, train) for v in values]
        best = {}
        for ridge in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0):
            made = [dict(zip(pair, linear(*reduced, train, rows, ridge=ridge)))
                    for rows in (checks, test)]  # fmt: skip
            score = np.mean([v for k, v in recall(made[0]).items() if k.startswith("recall@5")])
            if not best or score > best["score"]:
                best = {"score": score, "ridge": ridge} | recall(made[1])
        print(json.dumps({"method": "linear correlation", "training objects": len(train)} | best))


def within(values, train):
    """The same rows in the coordinates of the space that the training rows span."""
    off = values - values[train].mean(0)
    return off @ np.linalg.svd(off[train].astype(float), full_matrices=False)[2].T


class StarTable(Dataset):
    """Views and a split in memory, without an artefact on disk."""

    def __init__(self, split, views):
        object.__setattr__(self, "_split", split)
        object.__setattr__(self, "views", views)

    @property
    def split(self):
        return self._split


if __name__ == "__main__":
    if sys.argv[2:3] == ["libraries"]:
        libraries(Path(sys.argv[1]), *map(int, sys.argv[3:4]))
    elif sys.argv[2:3] == ["correlation"]:
        correlations(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]), *sys.argv[2:3], *map(int, sys.argv[3:4]))
