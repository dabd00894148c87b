"""`mmclip search`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from mmclip.cli.options import Json, Output, Vectors, Where


def command(
    query_id: Annotated[
        list[str] | None,
        Option(
            "--query-id",
            help="Gaia source_id; repeatable, several by commas, - for stdin; without one: a star "
            "of the test split.",
        ),
    ] = None,
    query_file: Annotated[
        Path | None, Option(help="Table of new objects: raw columns of a view; embedded now.")
    ] = None,
    start: Annotated[
        str | None, Option("--from", help="View of the query; mean: the average of all it has.")
    ] = None,
    to: Annotated[
        str | None, Option("--to", help="View of the answers. [default: as --from]")
    ] = None,
    contrast: Annotated[
        str | None, Option(help="Of the nearest, first those most different in this view.")
    ] = None,
    k: Annotated[
        int | None, Option("-k", min=1, help="Answers a query. [default: 10; all in --radius]")
    ] = None,
    radius: Annotated[
        float | None, Option(min=0, max=2, help="Largest cosine distance of an answer.")
    ] = None,
    where: Annotated[
        str | None, Option(help="Only such answers: 'teff < 4000 and snr > 20'.")
    ] = None,
    plot: Annotated[
        Path | None, Option(help="Picture of the first query and its answers (.png .pdf).")
    ] = None,
    samp: Annotated[
        str | None, Option(help="Send the table to a program: topcat, aladin, or all.")
    ] = None,
    vectors: Vectors = None,
    index: Annotated[
        str | None, Option(help="Index in parts (mmclip index --add). [default: of the vectors]")
    ] = None,
    device: Annotated[
        str | None, Option(help="Exact search by torch: cpu, cuda; auto: where a GPU is.")
    ] = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Find the stars most like the given ones, within a view or across views."""
    import numpy as np

    from mmclip.cli import output as show
    from mmclip.cuts import where as select
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks.search import answers
    from mmclip.vectors.store import Store

    space = show.workspace(workspace)
    store = Store(space.get("vectors", vectors))
    start, to = (store.view(v) if v else None for v in (start, to))
    contrast = store.modality(contrast) if contrast else None
    if query_file:
        queries, start = _new(space, store, query_file, start, contrast)
    else:
        queries, start = _known(store, query_id or [], start, contrast)
    only = None
    if where:
        data = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities[:1]))
        only = np.isin(store.source_id, data.source_id[select(data.objects, where)])
    k = 10 if k is None and radius is None else k
    asked_of, quality = _index(space, store, to or start, index, device)
    rows = answers(store, queries, start, to or start, k, radius, contrast, only, asked_of)
    show.modelled(store.artifact.manifest.provenance)
    if (quality.get("recall@10") or 1.0) < 1 and only is None and k is not None:
        asked = quality.get("held out", quality.get("asked", "some"))
        show.say(
            f"note: approximate index {quality['factory']}: recall@10 = "
            f"{quality['recall@10']:.3f} on {asked} "
            + ("held-out vectors" if "held out" in quality else "of its vectors")
        )
    if plot:
        _draw(space, store, queries, rows, start, to or start, plot)
    if samp:
        _send(rows, samp)
    kind = f"unlike in {contrast} among the nearest" if contrast else "nearest"
    show.rows(rows, f"{kind} by cosine, {start} -> {to or start}", as_json, output)


def _index(space: Any, store: Any, to: str, name: str | None, device: str | None) -> Any:
    """What is asked instead of the store's own index, if anything, and what is known of it."""
    from mmclip.errors import UsageError
    from mmclip.vectors import sharded as parts

    if name and device:
        raise UsageError("--device searches exactly, --index by that index", "one of the two")
    if name:
        artifact = space.get("index", name)
        return parts.read(artifact, store, to), artifact.manifest.notes["indexes"][to]
    if device:
        from mmclip.tasks.torch_search import on_device

        made = on_device(store.vectors(to), device)
        if made:
            return made, {}
    return None, store.artifact.manifest.notes.get("indexes", {}).get(to, {})


def _known(store: Any, texts: list[str], start: str | None, contrast: str | None) -> Any:
    from mmclip.cli import output as show
    from mmclip.cli.fetch import read_ids
    from mmclip.errors import UsageError
    from mmclip.surveys import parse_source_id
    from mmclip.tasks.search import example, stored

    start = start or ("xp" if "xp" in store.modalities else store.modalities[0])
    ids: list[int] = []
    for text in texts:
        if text == "example":
            ids.append(example(store, start))
            show.say(f"for example {ids[-1]}, a star of the test split with {start}")
            continue
        parts = [part for part in text.split(",") if part.strip()]
        ids += read_ids(Path("-")) if text == "-" else [parse_source_id(p) for p in parts]
    if not ids:
        raise UsageError(
            "search needs a star to start from",
            f"mmclip search --query-id {example(store, start)}",
        )
    return stored(store, list(dict.fromkeys(ids)), start, contrast), start


def _new(space: Any, store: Any, file: Path, start: str | None, contrast: str | None) -> Any:
    from mmclip.cli import output as show
    from mmclip.clip.run import open_run
    from mmclip.tasks.embed_new import from_file

    data = space.parent(store.artifact, "data")
    run = open_run(space.parent(store.artifact, "run"))
    queries, start, lost = from_file(run, file, start, contrast, data)
    for reason in sorted(set(lost)):
        show.say(f"left out {lost.count(reason)} of {file}: {reason}")
    return queries, start


def _draw(space: Any, store: Any, queries: Any, rows: Any, start: str, to: str, plot: Path) -> None:
    from mmclip import plots
    from mmclip.cli import output as show
    from mmclip.datasets import objects
    from mmclip.datasets.build import open_dataset

    mine = [r for r in rows if r["query_id"] == queries.names[0]][:8]
    data = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities))
    raw = objects.raw_views(space, data.artifact)
    images = [n for n in data.views if data.modality(n).kind == "image"]
    if images and isinstance(queries.names[0], int):
        plots.save(_strips(data, images[0], queries.names, rows), plot)
        show.say(f"wrote {plot}")
        return
    views = {start: start, to: to}
    shown = {v: v if v in store.modalities else store.modalities[0] for v in views}
    panels = []
    if isinstance(queries.names[0], int) and queries.rows[0] >= 0:
        asked = objects.portraits(data, raw, [queries.names[0]], shown[start])
        panels = [(p, f"query {p.source_id}", True) for p in asked]
    found = objects.portraits(data, raw, [r["source_id"] for r in mine], shown[to])
    cosine = {r["source_id"]: r["cosine"] for r in mine}
    panels += [(p, f"{p.source_id}   cos {cosine[p.source_id]:.3f}", False) for p in found]
    plots.save(plots.portraits_figure(panels, f"{start} → {to}"), plot)
    show.say(f"wrote {plot}")


def _strips(data: Any, image: str, queries: Any, rows: Any) -> Any:
    """Each query (four at most) beside its answers: images above spectra."""
    from mmclip import plots
    from mmclip.datasets import objects

    strips = []
    for query in queries[:4]:
        mine = [r for r in rows if r["query_id"] == query][:8]
        ids = [query, *(r["source_id"] for r in mine)]
        headings = [f"query\n{query}", *(f"cos {r['cosine']:.3f}" for r in mine)]
        seen = {p.source_id: p for p in objects.portraits(data, None, ids, image)}
        spectra: dict[int, objects.Portrait] = {}
        for view in [v for v in data.views if v != image]:
            found = objects.portraits(data, None, ids, view)
            spectra |= {p.source_id: p for p in found if p.kind == "spectrum"}
        strips.append(
            [(seen.get(i), spectra.get(i), h) for i, h in zip(ids, headings, strict=True)]
        )
    return plots.strips_figure(strips)


def _send(rows: Any, recipient: str) -> None:
    import tempfile

    from mmclip.cli import output as show
    from mmclip.surveys.client import samp as _samp

    folder = Path(tempfile.mkdtemp(prefix="mmclip-samp-"))  # the programs read it afterwards
    file = folder / "answers.vot"
    show.write(rows, file)
    told = _samp.send(file, "mmclip search", "" if recipient == "all" else recipient)
    show.say(f"sent {len(rows)} rows to {', '.join(told)}")
