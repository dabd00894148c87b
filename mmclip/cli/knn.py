"""`mmclip knn`: labels from the nearest training stars."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Data, Json, Output, Vectors, Where

if TYPE_CHECKING:
    from mmclip.results import Result


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
    opponents: Annotated[
        bool, Option("--opponents", help="Networks and boosting among the baselines too.")
    ] = False,
    apply: Annotated[
        bool, Option("--apply", help="Predict every star, labelled or not: the table of predict.")
    ] = False,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result | None":
    """Predict labels from the nearest training stars, beside baselines."""
    if apply:
        protocol = {"--fit-on": fit_on, "--index": index, "--objects": objects, "--plot": plot,
                    "-k": k != 13, "--weights": weights != "uniform", "--as-classes": as_classes,
                    "--metric": metric != "euclidean", "--scale": scale != "none",
                    "--split": split != "test", "--coverage": coverage != 0.683}  # fmt: skip
        refused = [n for n, given in protocol.items() if given]
        return _apply(target, modality, where, refused, vectors, data, as_json, output, workspace)
    from mmclip import cuts
    from mmclip.cli import inputs
    from mmclip.cli.output import say, show, write
    from mmclip.config import resolve
    from mmclip.plots import knn_figure, save
    from mmclip.tasks import knn
    from mmclip.tasks.neighbours import Options

    options = resolve(Options, "knn", None, {
        "k": k, "weights": weights, "metric": metric, "scale": scale, "split": split,
        "coverage": coverage, "resamples": bootstrap, "numbered": as_classes,
    })  # fmt: skip
    space, store, dataset = inputs.vectors_and_data(workspace, vectors, data)
    views = [store.view(modality)] if modality else store.modalities
    fit_on = store.view(fit_on) if fit_on else None
    only = cuts.where(dataset.objects, where) if where else None
    found, made = knn.table(
        store, dataset, inputs.names(target), views, fit_on=fit_on, only=only, options=options,
        search=inputs.search_by(space, index),
        opponents=knn.EVERY if opponents else knn.OPPONENTS,
    )  # fmt: skip
    if plot:
        for result in made:
            name = f"{plot.stem}-{result.target}-{result.view.replace(' -> ', '-to-')}"
            path = plot if len(made) == 1 else plot.with_stem(name)
            save(knn_figure(dataset, result, k), path)
            say(f"wrote {path}")
    if objects:
        write(inputs.known(space, knn.objects(made, store), dataset, None), objects)
        say(f"wrote a row a star to {objects}")
    return show(found, as_json, output, knn.short(found), lambda: knn_figure(dataset, made[0], k))


def _apply(
    target: str, modality: str | None, where: str | None, refused: list[str],
    vectors: str | None, data: str | None, as_json: bool, output: Path | None,
    workspace: Path | None,
) -> "Result | None":  # fmt: skip
    from mmclip.cli import inputs
    from mmclip.cli.output import say
    from mmclip.cli.predict import write_catalogue
    from mmclip.errors import UsageError
    from mmclip.tasks.predict import run

    if refused:
        raise UsageError(
            f"--apply takes the 13 nearest training stars; {refused[0]} belongs to the protocol",
            "leave it out; mmclip predict has other methods",
        )
    space, store, dataset = inputs.vectors_and_objects(workspace, vectors, data)
    held = dataset.artifact.manifest.provenance
    views = (store.modality(modality),) if modality else tuple(
        v for v in store.modalities if v in held)  # fmt: skip
    settings = run.PredictConfig(inputs.names(target), "knn", "vectors", views, where or "")
    head = run.applied(space, dataset.artifact, settings, store.artifact.path.name, say)
    named = dataset.artifact.path.name
    return write_catalogue(space, head, named, [], store.artifact.path.name, as_json, output)
