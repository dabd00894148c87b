"""`mmclip map`: the embedding space in two dimensions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from typer import Option

from mmclip.cli.options import Data, Force, Json, Name, Output, Seed, Vectors, Where

if TYPE_CHECKING:
    from mmclip.results import Result


def command(
    colour: Annotated[
        str | None,
        Option(help="Columns, by commas; a panel each. [default: teff, class or the first]"),
    ] = None,
    modality: Annotated[
        str | None, Option(help="One view, or concatenated: all. [default: mean of all]")
    ] = None,
    metric: Annotated[str, Option(help="Of UMAP: cosine or euclidean.")] = "cosine",
    split: Annotated[
        str | None, Option(help="Draw train, validation or test alone; several by commas: panels.")
    ] = None,
    neighbours: Annotated[int, Option(min=2, help="UMAP n_neighbors.")] = 50,
    min_dist: Annotated[float, Option(help="UMAP min_dist.")] = 0.2,
    leave_out: Annotated[
        str | None, Option(help="Classes, by commas, that are placed but not fitted.")
    ] = None,
    column: Annotated[str, Option(help="Column that holds the class.")] = "class",
    sample: Annotated[
        int, Option(min=5, help="Training stars to fit on at most, drawn by the seed.")
    ] = 100_000,
    onto: Annotated[
        str | None, Option(help="Place these vectors on this stored map; nothing is fitted.")
    ] = None,
    plot: Annotated[Path | None, Option(help="Picture (.png .pdf). [default: map.png]")] = None,
    page: Annotated[
        Path | None, Option(help="Also one HTML page to zoom, colour, lasso and search in.")
    ] = None,
    cards: Annotated[
        int, Option(min=0, help="Stars of the page that show their spectrum or light curve.")
    ] = 5000,
    seed: Seed = None,
    vectors: Vectors = None,
    data: Data = None,
    name: Name = None,
    force: Force = False,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result | None":
    """Draw the space in two dimensions (UMAP); the map is kept and new stars are placed on it."""
    import numpy as np

    from mmclip.cli import inputs
    from mmclip.cli.output import hears, modelled, say, show
    from mmclip.plots import MapPanel, map_panels_figure, save
    from mmclip.tasks import map as mapping
    from mmclip.tasks.knn import label

    space, store, dataset = inputs.vectors_and_data(workspace, vectors, data)
    columns = [mapping.colour_column(dataset, c) for c in inputs.names(colour) or [None]]
    coloured = columns[0]
    whole = modality == mapping.CONCATENATED
    view = store.view(modality) if modality and not whole else modality or "mean"
    if onto:
        positions = mapping.placed_on(space, store, onto, say)
    else:
        config = mapping.MapConfig(
            view, neighbours, min_dist, 42 if seed is None else seed, inputs.names(leave_out),
            sample, cast("Literal['cosine', 'euclidean']", metric),
        )  # fmt: skip
        positions = mapping.stored(space, store, dataset, config, column, name, force, say)
    each = {c: mapping.column_values(dataset, store, c, c == column) for c in columns}
    everyone = {"": np.ones(len(positions), bool)}
    shown = {s: store.of(s) for s in inputs.names(split)} or everyone
    panels = [
        MapPanel(positions[rows], each[c][rows], c, label(dataset, c), part)
        for c in columns
        for part, rows in shown.items()
    ]
    modelled(store.artifact.manifest.provenance)
    if plot or not hears():  # from Python `Result.plot` draws it
        picture = plot or Path("map.png")
        save(map_panels_figure(panels), picture)
        say(f"wrote {picture}")
    if page:
        from mmclip.datasets.objects import raw_views
        from mmclip.report import map_page, write

        raw = raw_views(space, dataset.artifact)
        write(page, map_page.page(store, dataset, raw, positions, coloured, cards, column))
        say(f"wrote {page}; open it in any browser, without a network")
    if not (as_json or output or hears()):
        return None
    listed = mapping.listed(store, positions, each[coloured], coloured)
    return show(listed, as_json, output, draw=lambda: map_panels_figure(panels))
