"""`mmclip knn`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from mmclip.cli.options import Data, Json, Output, Vectors, Where


def command(
    target: Annotated[
        str, Option(help="Label columns, by commas; a column of names is classified.")
    ] = "teff,logg,fe_h,alpha_m",
    modality: Annotated[
        str | None, Option(help="View of the query stars, or mean. [default: each]")
    ] = None,
    fit_on: Annotated[str | None, Option(help="View of the reference stars.")] = None,
    k: Annotated[int, Option("-k", min=1, help="Neighbours.")] = 13,
    weights: Annotated[str, Option(help="uniform or distance.")] = "uniform",
    metric: Annotated[str, Option(help="euclidean, cosine or manhattan.")] = "euclidean",
    scale: Annotated[str, Option(help="none, or standard: dimensions to deviation 1.")] = "none",
    split: Annotated[
        str, Option(help="Which stars are asked: test, validation or leave-one-out.")
    ] = "test",
    where: Annotated[
        str | None, Option(help="Only these stars: 'snr > 50 and teff < 8000'.")
    ] = None,
    coverage: Annotated[
        float, Option(min=0.01, max=0.99, help="Of the conformal interval of each star.")
    ] = 0.683,
    bootstrap: Annotated[
        int, Option(min=0, help="Resamples for the 95 % intervals of the numbers; 0: none.")
    ] = 200,
    objects: Annotated[
        Path | None, Option(help="Also write a row a star with its interval to this file.")
    ] = None,
    plot: Annotated[
        Path | None, Option(help="Picture of predictions against truth (.png .pdf).")
    ] = None,
    as_classes: Annotated[
        bool, Option("--as-classes", help="Numbers in the targets are numbers of classes.")
    ] = False,
    index: Annotated[
        str | None, Option(help="Index in parts (mmclip index --add). [default: exact]")
    ] = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Predict labels from the nearest training stars, beside baselines."""
    from mmclip.cli import inputs
    from mmclip.cli import output as show
    from mmclip.cuts import where as select
    from mmclip.tasks import knn

    options = knn.Options(k, weights, metric, scale, split, coverage, bootstrap, as_classes)
    space, store, dataset = inputs.vectors_and_data(workspace, vectors, data)
    views = [store.view(modality)] if modality else store.modalities
    targets = [t.strip() for t in target.split(",") if t.strip()]
    if fit_on:
        fit_on = store.view(fit_on)
    only = select(dataset.objects, where) if where else None
    how = inputs.how(space, index)
    rows, made = knn.table(
        store, dataset, targets, views, k, weights, split, fit_on, only, options, how
    )
    show.modelled(store.artifact.manifest.provenance)
    if any(row["circular"] for row in rows):
        show.say(
            "warning: circular: a modelled view was made from labels that are predicted from it; "
            "that says nothing about real stars"
        )
    if plot:
        _draw(dataset, made, k, plot)
    if objects:
        show.write(knn.objects(made), objects)
        show.say(f"wrote a row a star to {objects}")
    title = f"{split} stars, references from train, {metric}, 95 % bootstrap intervals"
    show.rows(rows, title, as_json, output, [_short(row) for row in rows])


def _draw(dataset: Any, made: Any, k: int, plot: Path) -> None:
    from mmclip import plots
    from mmclip.cli import output as show
    from mmclip.metrics import confusion
    from mmclip.tasks import knn

    for result in made:
        name = result.view.replace(" -> ", "-to-")
        place = plot if len(made) == 1 else plot.with_stem(f"{plot.stem}-{result.target}-{name}")
        title = f"k-NN (k={k}) from {result.view}"
        if result.classes:
            counts = confusion(result.truth, result.predicted, list(result.classes))
            figure = plots.confusion_figure(counts, result.classes, title)
        else:
            words = knn.label(dataset, result.target)
            figure = plots.prediction_figure(result.truth, result.predicted, words, title)
        plots.save(figure, place)
        show.say(f"wrote {place}")


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A row for a terminal: the interval of the first score beside it, options left out."""
    hidden = ("weights", "metric", "scale", "normalised", "references", "excluded", "k", "split",
              "wanted coverage", "index", "index recall@10")  # fmt: skip
    kept: dict[str, Any] = {}
    for name, value in row.items():
        if name in hidden or name.endswith(("_low", "_high")):
            continue
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        first = name in ("R2", "micro") and low is not None
        kept[name] = f"{value:.3f} [{low:.3f}, {high:.3f}]" if first else value
    return kept
