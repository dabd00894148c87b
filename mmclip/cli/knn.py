"""`mmclip knn`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Data, Json, Output, Vectors, Where


def command(
    target: Annotated[str, Option(help="Label columns, by commas.")] = "teff,logg,fe_h,alpha_m",
    modality: Annotated[str | None, Option(help="View of the query stars. [default: each]")] = None,
    fit_on: Annotated[str | None, Option(help="View of the reference stars.")] = None,
    k: Annotated[int, Option("-k", min=1, help="Neighbours.")] = 13,
    weights: Annotated[str, Option(help="uniform or distance.")] = "uniform",
    split: Annotated[str, Option(help="Which stars are asked: test or validation.")] = "test",
    where: Annotated[
        str | None, Option(help="Only these stars: 'snr > 50 and teff < 8000'.")
    ] = None,
    plot: Annotated[
        Path | None, Option(help="Picture of predictions against truth (.png .pdf).")
    ] = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Predict labels from the nearest training stars, beside baselines."""
    from mmclip.cli import show
    from mmclip.datasets.build import open_dataset
    from mmclip.datasets.where import where as select
    from mmclip.errors import UsageError
    from mmclip.tasks import knn
    from mmclip.vectors.store import Store

    if split not in ("test", "validation"):
        raise UsageError(f"--split {split} would find each star in its own reference", "use test")
    space = show.workspace(workspace)
    store = Store(space.get("vectors", vectors))
    stars = space.get("data", data) if data else space.parent(store.artifact, "data")
    dataset = open_dataset(stars, tuple(store.modalities))
    views = [store.modality(modality)] if modality else store.modalities
    targets = [t.strip() for t in target.split(",") if t.strip()]
    if fit_on:
        store.modality(fit_on)
    only = select(dataset.objects, where) if where else None
    rows, made = knn.table(store, dataset, targets, views, k, weights, split, fit_on, only)
    show.modelled(store.artifact.manifest.provenance)
    if any(row["circular"] for row in rows):
        show.say(
            "warning: circular: a modelled view was made from Teff, log g and [Fe/H]; "
            "predicting them from it says nothing about real stars"
        )
    if plot:
        from mmclip import plots

        best = made[0]
        figure = plots.prediction_figure(
            best.truth, best.predicted, best.target, f"k-NN (k={k}) from {best.view}"
        )
        plots.save(figure, plot)
        show.say(f"wrote {plot}")
    show.rows(rows, f"{split} stars, references from train, cosine", as_json, output)
