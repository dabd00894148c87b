"""`mmclip cluster`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from mmclip.cli.options import Data, Json, Output, Seed, Vectors, Where


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
    members: Annotated[Path | None, Option(help="Write source_id and group to this file.")] = None,
    seed: Seed = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Group stars, of all or of one class, and say what tells the groups apart."""
    from mmclip.cli import inputs
    from mmclip.cli import output as show
    from mmclip.datasets.objects import raw_views
    from mmclip.tasks import cluster
    from mmclip.tasks import map as mapping
    from mmclip.tasks.outliers import class_members

    config = cluster.ClusterConfig(
        method, k, epsilon, min_samples, min_size, 42 if seed is None else seed, sample
    )
    space, store, dataset = inputs.vectors_and_data(workspace, vectors, data)
    if on_map:
        points = mapping.places_of(space.get("map", on_map), store)
    else:
        points = store.vectors(store.view(modality or "mean"))
    made = cluster.cluster(points, class_members(store, dataset, kind, column), config)
    if made.scan:
        show.table(made.scan, "silhouettes")
    show.say(", ".join(f"{name} {show.cell(value)}" for name, value in made.about.items()))
    labels = cluster.in_order_of(dataset, store, made.labels)
    show.modelled(store.artifact.manifest.provenance)
    if plot:
        views = [modality] if modality in store.modalities else store.modalities
        _draw(dataset, raw_views(space, dataset.artifact), labels, views, plot)
    if members:
        rows = [
            {"source_id": int(s), "group": int(g)}
            for s, g in zip(store.source_id, made.labels, strict=True)
            if g >= -1
        ]
        show.write(rows, members)
        show.say(f"wrote {len(rows)} stars to {members}")
    title = f"what tells the groups {'of ' + kind + ' ' if kind else ''}apart"
    show.rows(cluster.apart(dataset, labels), title, as_json, output)


def _draw(dataset: Any, raw: Any, labels: Any, views: Any, plot: Path) -> None:
    """Mean spectra in one panel, or mean folded light curves side by side."""
    import numpy as np

    from mmclip import plots
    from mmclip.cli import output as show
    from mmclip.errors import UsageError
    from mmclip.tasks import cluster

    counts = np.bincount(labels[labels >= 0])
    names = [f"group {i} ({n:,} stars)" for i, n in enumerate(counts)]
    for view in views:
        modality = dataset.modality(view)
        if modality.kind == "light curve" and raw is not None:
            made = cluster.mean_curves(dataset, raw, labels, view)
            figure = plots.mean_curves_figure(
                *made, names, f"mean {view} of each group: median and 16th to 84th percentile"
            )
        elif modality.kind == "spectrum" and modality.axis is not None:
            means = cluster.mean_views(dataset, labels, view)
            figure = plots.overlay_figure(
                modality.axis(), means, names, f"wavelength [{modality.axis_unit}]",
                f"mean {modality.unit}", f"mean {view} of each group",
            )  # fmt: skip
        else:
            continue
        plots.save(figure, plot)
        show.say(f"wrote {plot}")
        return
    raise UsageError("no view here is a spectrum or a light curve to draw", "leave --plot out")
