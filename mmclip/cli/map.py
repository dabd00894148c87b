"""`mmclip map`."""

from pathlib import Path
from typing import Annotated, Any

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
    import numpy as np

    from mmclip import plots
    from mmclip.cli import inputs
    from mmclip.cli import output as show
    from mmclip.tasks import knn
    from mmclip.tasks import map as mapping

    space, store, dataset = inputs.vectors_and_data(workspace, vectors, data)
    chosen = _column(dataset, colour)
    named = chosen == column  # its numbers are those of classes
    if modality:
        store.view(modality)
    if onto:
        places = _placed(space, store, onto)
    else:
        config = mapping.MapConfig(
            modality or "mean", neighbours, min_dist, 42 if seed is None else seed,
            tuple(c for c in (leave_out or "").split(",") if c), sample,
        )  # fmt: skip
        places = _kept(space, store, dataset, config, column, name, force)
    values = _values(dataset, store, chosen, named)
    picture = plot or Path("map.png")
    if values.dtype == object:
        figure = plots.class_map_figure(places[:, 0], places[:, 1], values, chosen)
    else:
        words = knn.label(dataset, chosen)
        figure = plots.map_figure(places[:, 0], places[:, 1], values, words)
    plots.save(figure, picture)
    show.modelled(store.artifact.manifest.provenance)
    show.say(f"wrote {picture}")
    if page:
        _page(space, store, dataset, places, chosen, cards, page, column)
        show.say(f"wrote {page}; open it in any browser, without a network")
    if as_json or output:
        rows = [
            {"source_id": int(s), "x": float(p[0]), "y": float(p[1]),
             chosen: v if isinstance(v, str) else float(v)}
            for s, p, v in zip(store.source_id, places, values, strict=True)
            if np.isfinite(p[0])
        ]  # fmt: skip
        show.rows(rows, "map", as_json, output)


def _column(dataset: Any, wanted: str | None) -> str:
    """The column to colour by: the one asked for, or the first that is there."""
    from mmclip import arrays
    from mmclip.errors import NotFound, nearest

    ours = ["source_id", "split", *(f"has_{v}" for v in dataset.artifact.manifest.provenance)]
    usable = [
        f.name
        for f in dataset.objects.schema
        if f.name not in ours and (arrays.is_number(f.type) or arrays.is_name(f.type))
    ]
    if wanted and wanted not in usable:
        raise NotFound(
            f"the data set has no column '{wanted}' to colour by; {nearest(wanted, usable)}",
            f"--colour one of: {', '.join(usable)}",
        )
    order = [wanted] if wanted else ["teff", "class", *usable]
    return next(n for n in order if n in usable)


def _values(dataset: Any, store: Any, name: str, named: bool = False) -> Any:
    """A column in the order of the store: names as texts, all else as numbers."""
    from mmclip import arrays
    from mmclip.tasks.generate import places

    rows = places(store, dataset)
    if named or arrays.is_name(dataset.objects.schema.field(name).type):
        return arrays.decode(*arrays.encode(dataset.objects, name))[rows]
    return arrays.floats(dataset.objects, name)[rows]


def _kept(
    space: Any, store: Any, dataset: Any, config: Any, column: str, name: str | None, force: bool
) -> Any:
    """Places on the map of these settings: read if it was made before, else fitted and kept."""
    import json
    from dataclasses import asdict, replace

    import numpy as np

    from mmclip import artifacts
    from mmclip.cli import output as show
    from mmclip.errors import NotFound
    from mmclip.tasks import map as mapping
    from mmclip.tasks.outliers import class_members

    left = np.zeros(len(store.source_id), bool)
    for kind in config.left_out:
        left |= class_members(store, dataset, kind, column)
    every = int(mapping.fitted_rows(store, replace(config, sample=0), left).sum())
    config = replace(config, sample=config.sample if config.sample < every else 0)
    body = json.loads(json.dumps(asdict(config)))
    mark = store.artifact.manifest.fingerprint
    for known in reversed(space.all("map")):
        made_here = [p["fingerprint"] for p in known.manifest.parents] == [mark]
        if made_here and {"sample": 0} | known.manifest.config == body and not force:
            show.say(f"the map {known.path} was fitted before")
            return mapping.places_of(known, store)
    digest = artifacts.sha256_bytes(json.dumps([body, mark]).encode())[:6]
    final = space.place("map", name or f"{store.artifact.path.name}-{digest}")
    if config.sample:
        show.say(
            f"fitting on {config.sample:,} of {every:,} training stars, drawn by seed "
            f"{config.seed} (--sample); the others are placed on that map"
        )
    with artifacts.building(final, replace=force) as folder:
        places = mapping.fit(store, config, left)
        mapping.write(folder, store, places, mapping.fitted_rows(store, config, left), config)
    show.say(f"kept the map as {final}")
    if not np.isfinite(places).any():
        raise NotFound("no star has the view of this map")
    return places


def _placed(space: Any, store: Any, onto: str) -> Any:
    from mmclip.errors import UsageError
    from mmclip.tasks import map as mapping
    from mmclip.vectors.store import Store

    kept = space.get("map", onto)
    origin = Store(space.parent(kept, "vectors"))
    runs = [
        [p["fingerprint"] for p in s.artifact.manifest.parents if p["kind"] == "run"]
        for s in (origin, store)
    ]
    if runs[0] != runs[1]:
        raise UsageError(
            f"{store.artifact.path} was not embedded by the run behind the map {kept.path.name}",
            f"mmclip embed --run {origin.artifact.manifest.parents[0]['name']}",
        )
    config, _ = mapping.read(kept)
    return mapping.place(kept, origin, mapping.average(store, config.modality))


def _page(
    space: Any, store: Any, dataset: Any, places: Any, first: str, cards: int, path: Path,
    column: str,
) -> None:  # fmt: skip
    import numpy as np

    from mmclip import plots
    from mmclip import report as pages
    from mmclip.report import sky

    seen = np.flatnonzero(np.isfinite(places[:, 0]))
    ours = ["source_id", *(f"has_{v}" for v in dataset.artifact.manifest.provenance)]
    usable = [f.name for f in dataset.objects.schema if f.name not in ours]
    columns = []
    for name in [first, *(n for n in usable if n != first)]:
        try:
            values = _values(dataset, store, name, name == column)[seen]
        except (TypeError, ValueError):  # lists and dates are nothing to colour by
            continue
        unit = (dataset.objects.schema.field(name).metadata or {}).get(b"unit", b"").decode()
        columns.append(sky.Column(name, values, unit))
    drawn = np.random.default_rng(0).permutation(len(seen))[:cards]
    curves = _cards(space, store, dataset, seen, np.sort(drawn))
    manifest = store.artifact.manifest
    footer = (
        f"mmclip {manifest.mmclip_version}, vectors {manifest.fingerprint[:12]}: "
        + ", ".join(f"{n} ({p})" for n, p in sorted(manifest.provenance.items()))
        + f". {min(cards, len(seen))} of {len(seen)} objects carry their observations."
    )
    html = sky.page(
        f"Map of {store.artifact.path.name}", store.source_id[seen], places[seen, 0],
        places[seen, 1], columns, curves, plots.ramp(), footer,
    )  # fmt: skip
    pages.write(path, html)


def _cards(space: Any, store: Any, dataset: Any, seen: Any, drawn: Any) -> list[Any]:
    from mmclip.datasets import objects
    from mmclip.report import sky

    raw = objects.raw_views(space, dataset.artifact)
    row = {int(store.source_id[seen[i]]): int(i) for i in drawn}
    made = []
    for view in store.modalities:
        found = objects.portraits(dataset, raw, list(row), view)
        if not found or found[0].kind == "values":
            continue
        step = max(1, max(len(p.x) for p in found) // 160)
        made.append(
            sky.Cards(
                view, found[0].xlabel, found[0].ylabel, [row[p.source_id] for p in found],
                [p.x[::step] for p in found], [p.y[::step] for p in found],
                found[0].kind == "light curve", found[0].inverted, found[0].modelled,
            )
        )  # fmt: skip
    return made
