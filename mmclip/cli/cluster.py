"""`mmclip cluster`: groups of stars and what tells them apart."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Data, Json, Output, Seed, Vectors, Where

if TYPE_CHECKING:
    from mmclip.plots import Figure
    from mmclip.results import Result


def command(
    method: Annotated[str, Option(help="kmeans, dbscan or hdbscan.")] = "kmeans",
    kind: Annotated[
        str | None, Option("--class", help="Sub-groups of this class, for example M.")
    ] = None,
    column: Annotated[str, Option(help="Column that holds the class.")] = "class",
    modality: Annotated[str | None, Option(help="One view. [default: mean of all]")] = None,
    k: Annotated[
        int | None, Option("-k", min=2, help="Groups of k-means. [default: best of 2 to 10]")
    ] = None,
    epsilon: Annotated[
        float | None, Option(min=0, help="Of DBSCAN. [default: from the data, printed]")
    ] = None,
    min_samples: Annotated[int, Option(min=1, help="Of DBSCAN and HDBSCAN.")] = 5,
    min_size: Annotated[int, Option(min=2, help="Smallest group of HDBSCAN.")] = 20,
    sample: Annotated[
        int, Option(min=10, help="Stars that k-means and DBSCAN are fitted on at most.")
    ] = 100_000,
    on_map: Annotated[
        str | None, Option("--map", help="Group places on this stored map, not vectors.")
    ] = None,
    plot: Annotated[
        Path | None, Option(help="Mean spectrum or folded light curve of each group (.png .pdf).")
    ] = None,
    drawn: Annotated[
        Path | None,
        Option(
            "--map-plot", help="The map --map, else the newest, by group, with objects of each."
        ),
    ] = None,
    members: Annotated[Path | None, Option(help="Write source_id and group to this file.")] = None,
    seed: Seed = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result":
    """Group stars, of all or of one class, and say what tells the groups apart."""
    from mmclip.cli import inputs
    from mmclip.cli.output import cell, say, show, table, write
    from mmclip.config import resolve
    from mmclip.datasets.objects import raw_views
    from mmclip.plots import groups_figure, save
    from mmclip.tasks import cluster
    from mmclip.tasks.map import positions_of
    from mmclip.tasks.outliers import class_members

    config = resolve(cluster.ClusterConfig, "cluster", None, {
        "method": method, "k": k, "epsilon": epsilon, "min_samples": min_samples,
        "min_size": min_size, "seed": seed, "sample": sample,
    })  # fmt: skip
    space, store, dataset = inputs.vectors_and_data(workspace, vectors, data)
    if on_map:
        points = positions_of(space.get("map", on_map), store)
    else:
        points = store.vectors(store.view(modality or "mean"))
    made = cluster.cluster(points, class_members(store, dataset, kind, column), config)
    if len(made.scan):
        table(made.scan, made.scan.question)
    say(", ".join(f"{name} {cell(value)}" for name, value in made.about.items()))
    labels = cluster.in_order_of(dataset, store, made.labels)

    def draw() -> "Figure":
        views = [modality] if modality in store.modalities else store.modalities
        return groups_figure(dataset, raw_views(space, dataset.artifact), labels, views)

    if plot:
        save(draw(), plot)
        say(f"wrote {plot}")
    if drawn:
        from mmclip.plots import grouped_figure

        places = positions_of(space.get("map", on_map), store)
        raw = raw_views(space, dataset.artifact)
        views = [modality] if modality in store.modalities else list(store.modalities)
        save(grouped_figure(dataset, raw, places, made.labels, store.source_id, views), drawn)
        say(f"wrote {drawn}")
    if members:
        listed = cluster.members(store, made.labels)
        write(listed, members)
        say(f"wrote {len(listed)} stars to {members}")
    return show(cluster.apart(dataset, labels, kind=kind), as_json, output, draw=draw)
