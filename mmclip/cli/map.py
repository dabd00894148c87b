"""`mmclip map`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Data, Json, Output, Seed, Vectors, Where


def command(
    colour: Annotated[str, Option(help="Numeric column to colour by.")] = "teff",
    modality: Annotated[str | None, Option(help="One view. [default: mean of all]")] = None,
    neighbours: Annotated[int, Option(min=2, help="UMAP n_neighbors.")] = 50,
    min_dist: Annotated[float, Option(help="UMAP min_dist.")] = 0.2,
    plot: Annotated[Path | None, Option(help="Picture (.png .pdf). [default: map.png]")] = None,
    seed: Seed = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Draw the space in two dimensions (UMAP), coloured by a column."""
    import numpy as np

    from mmclip import plots
    from mmclip.cli import show
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks import knn
    from mmclip.tasks import map as mapping
    from mmclip.vectors.store import Store

    space = show.workspace(workspace)
    store = Store(space.get("vectors", vectors))
    stars = space.get("data", data) if data else space.parent(store.artifact, "data")
    values = knn.target_values(open_dataset(stars), colour)
    if modality:
        store.modality(modality)
    places = mapping.project(store, modality, neighbours, min_dist, 42 if seed is None else seed)
    picture = plot or Path("map.png")
    plots.save(plots.map_figure(places[:, 0], places[:, 1], values, colour), picture)
    show.say(f"wrote {picture}")
    if as_json or output:
        rows = [
            {"source_id": int(s), "x": float(p[0]), "y": float(p[1]), colour: float(v)}
            for s, p, v in zip(store.source_id, places, values, strict=True)
            if np.isfinite(p[0])
        ]
        show.rows(rows, "map", as_json, output)
