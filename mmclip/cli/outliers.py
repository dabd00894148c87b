"""`mmclip outliers`: the stars that are unlike the others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Data, Json, Output, Vectors, Where

if TYPE_CHECKING:
    from mmclip.results import Result, Row


def command(
    kind: Annotated[
        str | None,
        Option("--class", help="Look within this class, for example ROT; each: every class."),
    ] = None,
    column: Annotated[str, Option(help="Column that holds the class.")] = "class",
    k: Annotated[int, Option("-k", min=1, help="Neighbours, without a class.")] = 10,
    percentile: Annotated[
        float, Option(min=50, max=100, help="Threshold, percentile of the training stars.")
    ] = 99.0,
    agree: Annotated[
        int, Option(min=1, help="Views in which an outlier is beyond the threshold.")
    ] = 2,
    misclassified: Annotated[
        bool, Option("--misclassified", help="Only stars whose neighbours are of another class.")
    ] = False,
    map_name: Annotated[
        str | None, Option("--map", help="Stored map, for its clusters. [default: the newest]")
    ] = None,
    surprise: Annotated[
        str | None,
        Option(help="FROM:TO, a score more: how unlike what FROM generates is the observed TO."),
    ] = None,
    reference: Annotated[
        str | None,
        Option(help="What is ordinary: 'split = train and snr > 50'. [default: training stars]"),
    ] = None,
    discount_noise: Annotated[
        bool, Option("--discount-noise", help="Distances over those of stars of the same S/N.")
    ] = False,
    file: Annotated[
        list[Path] | None,
        Option("--file", help="Score these new stars instead: files as import reads; repeatable."),
    ] = None,
    reader: Annotated[str | None, Option(help="Format of --file. [default: looked at]")] = None,
    columns: Annotated[str | None, Option(help="Of --file: flux=FLUX,wavelength=WAVE.")] = None,
    top: Annotated[int, Option(min=1, help="How many to list; -o writes all.")] = 20,
    shown: Annotated[
        str | None,
        Option("--show", help="Columns of the data beside each star, by commas; none for none."),
    ] = None,
    gallery: Annotated[
        Path | None, Option(help="HTML page of them: light curves, spectra, diagrams, map.")
    ] = None,
    index: Annotated[
        str | None, Option(help="Index in parts (mmclip index --add). [default: exact]")
    ] = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result":
    """List the strangest stars, of all or of one class, and what they may be instead."""
    import numpy as np

    from mmclip import cuts
    from mmclip.cli import inputs
    from mmclip.cli.output import say, show
    from mmclip.errors import UsageError
    from mmclip.tasks.map import positions_on
    from mmclip.tasks.neighbours import data_rows
    from mmclip.tasks.outliers import detectors, summary

    views = gallery or not (misclassified or (kind and not (discount_noise or surprise)))
    opened = inputs.vectors_and_data if views else inputs.vectors_and_objects
    space, store, dataset = opened(workspace, vectors, data)
    search = inputs.search_by(space, index)
    ordinary = None
    if reference:
        at, chosen = data_rows(store, dataset), cuts.where(dataset.objects, reference)
        ordinary = np.asarray(chosen if at is None else chosen[at])
    most = None if output is not None else top
    settings = summary.Settings(kind, column, k, percentile, agree, most, discount_noise)
    if file:
        from mmclip.clip.run import open_run
        from mmclip.tasks.outliers import new
        from mmclip.tasks.predict import catalogue

        alone = {"--class": kind, "--misclassified": misclassified, "--surprise": surprise,
                 "--discount-noise": discount_noise, "--gallery": gallery}  # fmt: skip
        for option in [n for n, given in alone.items() if given]:
            raise UsageError(f"{option} is of the stars of the vectors, not of --file",
                             "mmclip import, preprocess, embed --add-to, outliers")  # fmt: skip
        run = open_run(space.parent(store.artifact, "run"))
        with catalogue.scratch() as folder:
            found = new.find(store, dataset, run, file, Path(folder), settings, ordinary, search,
                             reader or "", columns)  # fmt: skip
        return show(found, as_json, output, found.head(top).rows)
    positions = positions_on(space, store, map_name)
    if misclassified:
        found, _ = detectors.misclassified(
            store, dataset, column, kind=kind or None, top=top, search=search
        )
    else:
        also = {}
        if surprise:
            from mmclip.clip.run import open_run
            from mmclip.tasks.generate.choice import surprise_of

            run = open_run(space.parent(store.artifact, "run"))
            also = surprise_of(space, store, dataset, run, surprise)
        found = summary.find(store, dataset, settings, positions, also, search, ordinary)
    if gallery:
        from mmclip.datasets.objects import raw_views
        from mmclip.report import outliers, write

        raw = raw_views(space, dataset.artifact)
        write(gallery, outliers.page(store, dataset, raw, found.head(top), positions))
        say(f"wrote {gallery}")
    found = inputs.known(space, found, dataset, shown)
    return show(found, as_json, output, [_in_order(row) for row in found.head(top)])


def _in_order(row: "Row") -> "Row":
    """The cells that say what star it is and how strange before those that say why."""
    from mmclip.tasks.search import SHOWN

    first = ("source_id", "excess", "score", "flags", "class", "neighbours' class", *SHOWN)
    return {n: row[n] for n in (*first, *row) if n in row}
