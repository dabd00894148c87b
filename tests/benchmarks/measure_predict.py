"""`mmclip predict` on the bundled real stars: coverage by group, shifted populations, few labels.

    mmclip fetch --survey demo --name demoall -w W && mmclip preprocess --raw demoall --name demoall -w W
    python -m tests.benchmarks.measure_predict coverage W demoall [METHOD] [STARS] [DRAWS]
    python -m tests.benchmarks.measure_predict knn W VECTORS
    python -m tests.benchmarks.measure_predict giants W demoall [METHOD] [STARS]
    python -m tests.benchmarks.measure_predict south W demoall [METHOD] [STARS]
    python -m tests.benchmarks.measure_predict few W demoall [METHOD,...] [STARS,...] [DRAWS] [VIEWS]

STARS training stars with a label are learned from; all stars that are not of the training split are
asked. Coverage is printed in quartiles of the true label and of S/N, the mean over DRAWS (5) of STARS
training stars and an eighth as many validation stars, of 12,000 others; `knn` of the stars of the test
split, by the vectors, of each view. Of the shifted populations
also where the test for a shift is not made. Few labels: R2 of test stars with S/N > 50 and
3500-8000 K, over DRAWS draws (5) of STARS labels, from VIEWS (`xp` or `metadata,xp`); the components
are learned from all training spectra.
"""  # noqa: E501

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmclip import arrays
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.build import open_dataset
from mmclip.ids import rows_of
from mmclip.tasks import knn
from mmclip.tasks.neighbours import Options
from mmclip.tasks.predict import catalogue, compare, fit, inputs_of, learn_blocks
from mmclip.tasks.predict.features import Rows
from mmclip.tasks.predict.run import PredictConfig, fitting
from mmclip.tasks.predict.stars import Stars, labels, stars_of
from mmclip.vectors.store import Store

LABELS = ("teff", "logg", "fe_h", "alpha_m")
ALONG, COLUMNS = ("Teff", "S/N", "[M/H]"), ("teff", "snr", "fe_h")
BLUR = 21  # pixels of a boxcar
ASKED = 12_000  # stars that coverage is measured on


def some_of(stars, rows, change=None):
    """Rows of the stars; spectra changed by `change`."""

    def reading(name):
        def read(asked):
            seen = stars.read[name](rows[asked])
            if change is None or name != "xp":
                return seen
            return Rows(change(seen.values), seen.noise, seen.errors)

        return read

    present = {n: p[rows] for n, p in stars.present.items()}
    return Stars(stars.source_id[rows], np.full(len(rows), "new"), present,
                 {n: reading(n) for n in stars.read})  # fmt: skip


def blurred(values):
    """Spectra [n, pixels] under a boxcar."""
    box = np.ones(BLUR) / BLUR
    edge = BLUR // 2
    padded = np.pad(values, ((0, 0), (edge, edge)), "edge")
    return np.apply_along_axis(lambda v: np.convolve(v, box, "valid"), 1, padded)


def everyone(data):
    """[stars] all of them."""
    return np.ones(len(data.source_id), bool)


def learned(space, name, method, count, which, seed=0, held=None):
    """A head fitted on `count` training stars among `which`, and the data set.

    `held`: validation stars, drawn too; None: all.
    """
    data = space.get("data", name)
    found = fitting(space, data, PredictConfig(LABELS, method)).question
    known = np.any([one.known for one in found.labels], axis=0) & which(found.data)
    train = np.flatnonzero(known & found.data.of("train"))
    draw = np.random.default_rng(seed)
    only = known & ~found.data.of("train")
    only[draw.permutation(train)[:count]] = True
    if held is not None:
        only[draw.permutation(np.flatnonzero(known & found.data.of("validation")))[held:]] = False
    question = replace(found, only=only, seed=seed)
    sets = (question.views,) if held is not None else None
    return fit(question, method, print, 0, sets=sets)[0], found.data


def inside(made, data, rows, bounds):
    """[labels, rows] whether the truth lies within; NaN where unknown or nothing is said."""
    held = np.full((len(LABELS), len(rows)), np.nan)
    for row, label in zip(held, LABELS, strict=True):
        truth = arrays.column(data.objects, label).astype(np.float64)[rows]
        low, high = (made[f"{label}_{end}{bounds}"].to_numpy() for end in ("lower", "upper"))
        known = np.isfinite(truth) & np.isfinite(low)
        row[known] = ((low <= truth) & (truth <= high))[known]
    return held


def told(draws):
    """Print the mean coverage over draws: (level, label) -> [all, quartiles of each axis] each."""
    for level, label in draws[0]:
        every = np.array([draw[level, label] for draw in draws])
        all_, quartiles = every[:, 0].mean(), every[:, 1:]
        worst = np.abs(quartiles.mean(axis=0) - level).max()
        single = np.abs(quartiles - level).max(axis=1).mean()
        parts = [f"{v:.3f}" for v in quartiles.mean(axis=0)]
        axes = [f"{n} {' '.join(parts[4 * i : 4 * i + 4])}" for i, n in enumerate(ALONG)]
        print(f"{level} {label}: all {all_:.3f}, worst of the mean {worst:.3f}, of a draw "
              f"{single:.3f}; {'; '.join(axes)}", flush=True)  # fmt: skip


def quartiles(held, along):
    """Coverage of all, and in quartiles of each of `along` ([rows] each)."""
    made = [float(np.nanmean(held))]
    for value in along:
        known = np.isfinite(value) & np.isfinite(held)
        place = np.digitize(value[known], np.quantile(value[known], [0.25, 0.5, 0.75]))
        made += [float(held[known][place == q].mean()) for q in range(4)]
    return made


def asked(head, stars, check=True):
    """The catalogue of some stars."""
    question = catalogue.ask(head, stars, check)
    for note in question.notes:
        print(note)
    return pa.concat_tables(catalogue.blocks(question))


def coverage(space, name, method, count, draws):
    """The same population."""
    every = []
    for seed in range(draws):
        head, data = learned(space, name, method, count, everyone, seed, count // 8)
        part = head.parts[0]
        others = ~np.isin(data.source_id, np.r_[part.oof_id, part.around.source_id])
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(others))[:ASKED]
        made = asked(head, some_of(stars_of(data), rows))
        along = [arrays.column(data.objects, n).astype(float)[rows] for n in COLUMNS]
        every.append({
            (level, label): quartiles(held, along)
            for bounds, level in (("", 0.683), ("95", 0.95))
            for label, held in zip(LABELS, inside(made, data, rows, bounds), strict=True)
        })  # fmt: skip
        told(every[-1:])
        flags = np.array(made["flags"].to_pylist())
        told_flags(made, data, rows, flags)
    print(f"mean of {draws} draws")
    told(every)


def told_flags(made, data, rows, flags):
    """Print what the flag `uncertain` catches: residuals beyond 5 NMAD."""
    for label in LABELS:
        truth = arrays.column(data.objects, label).astype(np.float64)[rows]
        off = made[label].to_numpy() - truth
        known = np.isfinite(off)
        gross = known & (np.abs(off) > 5 * 1.4826 * np.nanmedian(np.abs(off)))
        flagged = np.array([f"uncertain {label}" in f or "outside" in f for f in flags])
        kept = known & ~flagged
        r2 = [1 - (off[m] ** 2).sum() / ((truth[m] - truth[m].mean()) ** 2).sum()
              for m in (known, kept)]  # fmt: skip
        print(f"  {label}: R2 {r2[0]:.3f}, without the flagged {r2[1]:.3f}; {gross.sum()} gross of "
              f"{known.sum()}, {flagged[gross].mean():.2f} of them flagged and "
              f"{flagged[known & ~gross].mean():.3f} of the others", flush=True)  # fmt: skip


def by_neighbours(space, name):
    """Coverage of `mmclip knn` on the test stars, by the vectors of each view."""
    store = Store(space.get("vectors", name))
    data = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities))
    at = rows_of(data.source_id, store.source_id)
    along = [arrays.column(data.objects, n).astype(float)[at] for n in COLUMNS]
    for view in store.modalities:
        made = {}
        for level in (0.683, 0.95):
            for label in LABELS:
                found = knn.regress(store, data, label, view, options=Options(13, coverage=level))
                rows = rows_of(store.source_id, found.source_id)
                held = found.covered.astype(float)
                made[level, label] = quartiles(held, [a[rows] for a in along])
        print(view)
        told([made])


def shifted(space, name, method, count, ours, theirs, change=None):
    """Another population, with and without the test for a shift."""
    head, data = learned(space, name, method, count, ours)
    rows = np.flatnonzero(theirs(data) & data.of("test"))
    for check in (False, True):
        made = asked(head, some_of(stars_of(data), rows, change), check)
        silent = np.mean(["abstained" in f for f in made["flags"].to_pylist()])
        print(f"shift tested: {check}; {len(rows)} stars, {silent:.3f} not answered")
        for bounds in ("", "95"):
            held = inside(made, data, rows, bounds)
            found = zip(LABELS, held, strict=True)
            parts = [f"{label} {np.nanmean(h):.3f}" for label, h in found]
            print(f"  {bounds or '68'} %: {', '.join(parts)}", flush=True)


def few(space, name, methods, counts, draws, views):
    """R2 over draws of the labels."""
    found = fitting(space, space.get("data", name), PredictConfig(LABELS, views=views)).question
    inputs = inputs_of(views, "view", found.stars.read)
    blocks = learn_blocks(found.data, found.stars, inputs)
    column = {n: arrays.column(found.data.objects, n).astype(float) for n in ("teff", "snr")}
    clean = (column["snr"] > 50) & (column["teff"] > 3500) & (column["teff"] < 8000)
    clean &= np.all([one.known for one in found.labels], axis=0)
    train = np.flatnonzero(clean & found.data.of("train"))
    asked = clean & ~found.data.of("train")
    for count in counts:
        scores = []
        for seed in range(draws):
            only = asked.copy()
            only[np.random.default_rng(seed).permutation(train)[:count]] = True
            known = tuple(labels(found.data, LABELS, only & found.data.of("train")))
            one = replace(found, labels=known, only=only, seed=seed)
            rows = compare(one, methods, blocks, 0)[0]
            scores.append([row["R2"] for row in rows])
        for i, method in enumerate(methods):
            own = np.array(scores)[:, i * len(LABELS) : (i + 1) * len(LABELS)]
            figures = zip(LABELS, own.mean(axis=0), own.std(axis=0), strict=True)
            told = ", ".join(f"{n} {m:.3f} +- {s:.3f}" for n, m, s in figures)
            what = f"{count} of {len(train)} labels, {draws} draws, {method}, {'+'.join(views)}"
            print(f"{what}: {told}", flush=True)


def main(question, workspace, name, method="kernel-ridge", count="3000", draws="5", views="xp"):
    """See the module."""
    space = Workspace(Path(workspace))
    if question == "few":
        counts = [int(c) for c in count.split(",")]
        few(space, name, method.split(","), counts, int(draws), tuple(views.split(",")))
        return
    if question == "knn":
        by_neighbours(space, name)
        return
    n = int(count)

    def column(label):
        return lambda d: arrays.column(d.objects, label).astype(np.float64)

    logg, dec = column("logg"), column("dec")
    if question == "coverage":
        coverage(space, name, method, n, int(draws))
    elif question == "giants":
        shifted(space, name, method, n, lambda d: logg(d) < 3.5, lambda d: logg(d) >= 3.8)
    elif question == "south":
        shifted(space, name, method, n, lambda d: dec(d) > 0, lambda d: dec(d) < 0, blurred)


if __name__ == "__main__":
    main(*sys.argv[1:])
