"""`mmclip predict` on the bundled real stars: coverage by group, shifted populations, few labels.

    mmclip fetch --survey demo --name demoall -w W && mmclip preprocess --raw demoall --name demoall -w W
    python -m tests.benchmarks.measure_predict coverage W demoall [METHOD] [STARS]
    python -m tests.benchmarks.measure_predict giants W demoall [METHOD] [STARS]
    python -m tests.benchmarks.measure_predict south W demoall [METHOD] [STARS]
    python -m tests.benchmarks.measure_predict few W demoall [METHOD,...] [STARS,...] [DRAWS] [VIEWS]

STARS training stars with a label are learned from; all stars that are not of the training split are
asked. Coverage is printed in quartiles of the true label and of S/N; of the shifted populations
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
from mmclip.tasks.predict import catalogue, compare, fit, inputs_of, learn_blocks
from mmclip.tasks.predict.features import Rows
from mmclip.tasks.predict.run import PredictConfig, fitting
from mmclip.tasks.predict.stars import Stars, labels, stars_of

LABELS = ("teff", "logg", "fe_h", "alpha_m")
BLUR = 21  # pixels of a boxcar


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


def learned(space, name, method, count, which):
    """A head fitted on `count` training stars among `which`, and the data set."""
    data = space.get("data", name)
    found = fitting(space, data, PredictConfig(LABELS, method)).question
    known = np.any([one.known for one in found.labels], axis=0) & which(found.data)
    train = np.flatnonzero(known & found.data.of("train"))
    rows = np.random.default_rng(0).permutation(train)[:count]
    only = known & ~found.data.of("train")
    only[rows] = True
    question = type(found)(found.data, found.stars, found.labels, found.views, found.on, only)
    return fit(question, method, print, 0)[0], found.data


def inside(made, data, rows, bounds):
    """[labels, rows] whether the truth lies within; NaN where unknown or nothing is said."""
    held = np.full((len(LABELS), len(rows)), np.nan)
    for row, label in zip(held, LABELS, strict=True):
        truth = arrays.column(data.objects, label).astype(np.float64)[rows]
        low, high = (made[f"{label}_{end}{bounds}"].to_numpy() for end in ("lower", "upper"))
        known = np.isfinite(truth) & np.isfinite(low)
        row[known] = ((low <= truth) & (truth <= high))[known]
    return held


def told(made, data, rows, along):
    """Print coverage in quartiles of each of `along` (name -> [rows])."""
    for bounds, level in (("", 0.683), ("95", 0.95)):
        held = inside(made, data, rows, bounds)
        for j, label in enumerate(LABELS):
            parts, worst = [], 0.0
            for name, value in along.items():
                known = np.isfinite(value) & np.isfinite(held[j])
                place = np.digitize(value[known], np.quantile(value[known], [0.25, 0.5, 0.75]))
                got = [float(held[j][known][place == q].mean()) for q in range(4)]
                worst = max(worst, *(abs(g - level) for g in got))
                parts.append(f"{name} {' '.join(f'{g:.3f}' for g in got)}")
            count = int(np.isfinite(held[j]).sum())
            print(f"{level} {label}: all {np.nanmean(held[j]):.3f} of {count}, worst {worst:.3f}; "
                  f"{'; '.join(parts)}", flush=True)  # fmt: skip


def asked(head, stars, check=True):
    """The catalogue of some stars."""
    question = catalogue.ask(head, stars, check)
    for note in question.notes:
        print(note)
    return pa.concat_tables(catalogue.blocks(question))


def coverage(space, name, method, count):
    """The same population."""
    head, data = learned(space, name, method, count, lambda d: np.ones(len(d.source_id), bool))
    rows = np.flatnonzero(data.of("test"))
    column = {n: arrays.column(data.objects, n).astype(np.float64)[rows] for n in (*LABELS, "snr")}
    told(asked(head, some_of(stars_of(data), rows)), data, rows,
         {"Teff": column["teff"], "S/N": column["snr"], "[M/H]": column["fe_h"]})  # fmt: skip


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
    n = int(count)

    def column(label):
        return lambda d: arrays.column(d.objects, label).astype(np.float64)

    logg, dec = column("logg"), column("dec")
    if question == "coverage":
        coverage(space, name, method, n)
    elif question == "giants":
        shifted(space, name, method, n, lambda d: logg(d) < 3.5, lambda d: logg(d) >= 3.8)
    elif question == "south":
        shifted(space, name, method, n, lambda d: dec(d) > 0, lambda d: dec(d) < 0, blurred)


if __name__ == "__main__":
    main(*sys.argv[1:])
