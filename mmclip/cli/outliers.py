"""`mmclip outliers`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from mmclip.cli.options import Data, Json, Output, Vectors, Where


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
    top: Annotated[int, Option(min=1, help="How many to list.")] = 20,
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
) -> None:
    """List the strangest stars, of all or of one class, and what they may be instead."""
    from mmclip.cli import inputs
    from mmclip.cli import output as show
    from mmclip.tasks.outliers import detectors

    views = gallery or (surprise and not misclassified)
    opened = inputs.vectors_and_data if views else inputs.vectors_and_objects
    space, store, dataset = opened(workspace, vectors, data)
    places, how = _places(space, store, map_name), inputs.how(space, index)
    if misclassified:
        rows, count = detectors.misclassified(
            store, dataset, column, kind=kind or None, top=top, how=how
        )
        among = f"stars whose neighbours are of another class: {count}"
    else:
        also = _surprise(space, store, dataset, surprise) if surprise else {}
        rows, count = _strange(
            store, dataset, kind, column, k, percentile, agree, places, also, top, how
        )
        among = f"strangest stars among {count}" + (f" of class {kind}" if kind else "")
    show.modelled(store.artifact.manifest.provenance)
    if gallery:
        _gallery(space, store, dataset, rows, places, among, gallery)
        show.say(f"wrote {gallery}")
    show.rows(rows, among, as_json, output)


def _strange(
    store: Any, dataset: Any, kind: str | None, column: str, k: int, percentile: float,
    agree: int, places: Any, also: dict[str, Any], top: int, how: Any,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """The strangest stars, and among how many."""
    import numpy as np

    from mmclip.cli import output as show
    from mmclip.tasks.outliers import detectors, summary

    kinds: list[str | None] = [kind]
    if kind == "each":
        names, codes = detectors.classified(store, dataset, column)
        counts = np.bincount(codes + 1, minlength=len(names) + 1)[1:]
        kinds = [name for name, count in zip(names, counts) if count >= 20]
    rows: list[dict[str, Any]] = []
    stars = 0
    for one in kinds:
        made, about = summary.examine(
            store, dataset, one, column, k, percentile, agree, places, also, top,
            by_score=kind == "each", how=how,
        )  # fmt: skip
        stars += about.pop("stars")
        words = ", ".join(f"{n} {show.cell(v)}" for n, v in about.items())
        show.say(f"{one or 'all stars'}: {words}")
        rows += made
    if kind == "each":
        rows.sort(key=lambda r: (-r["flags"], -r["score"]))
    return rows[:top], stars


def _surprise(space: Any, store: Any, dataset: Any, text: str) -> dict[str, Any]:
    from mmclip.cli.generate import chosen, views
    from mmclip.clip.run import open_run
    from mmclip.errors import UsageError
    from mmclip.tasks import generate

    start, colon, to = text.partition(":")
    if not (start and colon and to):
        raise UsageError(f"--surprise '{text}' is not FROM:TO", "--surprise metadata:xp")
    names, target = views(store, start, to)
    run = open_run(space.parent(store.artifact, "run"))
    trained = chosen(space, run, dataset, names, target, None)
    found = generate.surprise(store, dataset, run, names, target, trained)
    return {f"surprise {'+'.join(names)}->{target}": found}


def _places(space: Any, store: Any, name: str | None) -> Any:
    """Places on a stored map of these vectors; None if there is none and none was asked for."""
    from mmclip.tasks import map as mapping

    if name:
        return mapping.places_of(space.get("map", name), store)
    mark = store.artifact.manifest.fingerprint
    for kept in reversed(space.all("map")):
        if [p["fingerprint"] for p in kept.manifest.parents] == [mark]:
            return mapping.places_of(kept, store)
    return None


def _gallery(
    space: Any, store: Any, dataset: Any, rows: Any, places: Any, title: str, path: Path
) -> None:
    import numpy as np

    from mmclip import plots
    from mmclip import report as pages
    from mmclip.datasets import objects
    from mmclip.ids import rows_of

    raw = objects.raw_views(space, dataset.artifact)
    periods = objects.periods(dataset, raw)
    diagram = objects.colour_magnitude(dataset, raw)
    ids = [r["source_id"] for r in rows]
    found: dict[int, list[Any]] = {i: [] for i in ids}
    for view in store.modalities:
        for made in objects.portraits(dataset, raw, ids, view):
            if made.kind == "values":
                continue
            found[made.source_id].append(made)
            if made.kind == "light curve" and made.source_id in periods:
                period = periods[made.source_id]
                found[made.source_id].append(objects.folded(made, period))
    on_map = dict(zip(ids, store.rows(ids).tolist(), strict=True))
    at = dict(zip(ids, rows_of(dataset.source_id, np.array(ids, np.int64)).tolist(), strict=True))
    named = "object_name" in dataset.objects.column_names
    names = dataset.objects["object_name"] if named else None
    sections = [pages.Section(title, "The strangest first.", table=rows)]
    for row in rows:
        source_id = row["source_id"]
        scatters: list[Any] = []
        if diagram is not None:
            scatters.append(
                ("colour-magnitude", diagram.x, diagram.y, at[source_id], diagram.xlabel,
                 diagram.ylabel, True)
            )  # fmt: skip
        if places is not None:
            scatters.append(
                ("map", places[:, 0], places[:, 1], on_map[source_id], "UMAP 1", "UMAP 2", False)
            )
        if not found[source_id] and not scatters:
            continue
        figure = plots.dossier_figure(found[source_id], scatters)
        said = row.get("neighbours say", "")
        words = f"class {row['class']}, neighbours say {said}" if row.get("class") else ""
        modelled = any(p.modelled for p in found[source_id])
        sections.append(
            pages.Section(
                _heading(source_id, names[at[source_id]].as_py() if names is not None else None),
                row.get("verdict", "") or "", table=[row],
                pictures=[(plots.png_bytes(figure), f"{source_id}: {words}".rstrip(": "))],
                modelled=modelled, wide=True,
            )
        )  # fmt: skip
    manifest = store.artifact.manifest
    footer = f"mmclip {manifest.mmclip_version}, vectors {manifest.fingerprint[:12]}."
    html = pages.page(f"Outliers of {store.artifact.path.name}", title, sections, footer)
    pages.write(path, html)


def _heading(source_id: int, name: str | None) -> str:
    """The id, and the name of the catalogue where it is another."""
    return f"{source_id} · {name}" if name and name != str(source_id) else str(source_id)
