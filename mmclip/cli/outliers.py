"""`mmclip outliers`."""

from typing import Annotated

from typer import Option

from mmclip.cli.options import Data, Json, Output, Vectors, Where


def command(
    kind: Annotated[
        str | None, Option("--class", help="Look within this class, for example ROT.")
    ] = None,
    column: Annotated[str, Option(help="Column that holds the class.")] = "class",
    k: Annotated[int, Option("-k", min=1, help="Neighbours, without a class.")] = 10,
    percentile: Annotated[
        float, Option(min=50, max=100, help="Threshold, percentile of the training stars.")
    ] = 99.0,
    top: Annotated[int, Option(min=1, help="How many to list.")] = 20,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """List the strangest stars, of all or of one class."""
    from mmclip.cli import show
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks.outliers import outliers
    from mmclip.vectors.store import Store

    space = show.workspace(workspace)
    store = Store(space.get("vectors", vectors))
    stars = space.get("data", data) if data else space.parent(store.artifact, "data")
    rows = outliers(store, open_dataset(stars), kind, column, k, percentile)
    show.modelled(store.artifact.manifest.provenance)
    among = f" among {len(rows)} of class {kind}" if kind else f" among {len(rows)}"
    show.rows(rows[:top], f"strangest stars{among}", as_json, output)
