"""`mmclip map`: the embedding space in two dimensions."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Data, Force, Json, Name, Output, Seed, Vectors, Where


def command(
    colour: Annotated[
        str | None, Option(help="Column to colour by. [default: teff, class or the first]")
    ] = None,
    modality: Annotated[str | None, Option(help="One view. [default: mean of all]")] = None,
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
) -> None:
    """Draw the space in two dimensions (UMAP); the map is kept and new stars are placed on it."""
    from mmclip.cli import inputs
    from mmclip.cli.output import modelled, say, show
    from mmclip.plots import column_map_figure, save
    from mmclip.tasks import map as mapping
    from mmclip.tasks.knn import label

    space, store, dataset = inputs.vectors_and_data(workspace, vectors, data)
    coloured = mapping.colour_column(dataset, colour)
    view = store.view(modality) if modality else "mean"
    if onto:
        positions = mapping.placed_on(space, store, onto)
    else:
        config = mapping.MapConfig(
            view, neighbours, min_dist, 42 if seed is None else seed, inputs.names(leave_out),
            sample,
        )  # fmt: skip
        positions = mapping.stored(space, store, dataset, config, column, name, force, say)
    values = mapping.column_values(dataset, store, coloured, coloured == column)
    picture = plot or Path("map.png")
    save(column_map_figure(positions, values, coloured, label(dataset, coloured)), picture)
    modelled(store.artifact.manifest.provenance)
    say(f"wrote {picture}")
    if page:
        from mmclip.datasets.objects import raw_views
        from mmclip.report import map_page, write

        raw = raw_views(space, dataset.artifact)
        write(page, map_page.page(store, dataset, raw, positions, coloured, cards, column))
        say(f"wrote {page}; open it in any browser, without a network")
    if as_json or output:
        listed = mapping.listed(store, positions, values, coloured)
        show(listed, as_json, output)
