"""`mmclip search`: the stars most like the given ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Json, Output, Vectors, Where

if TYPE_CHECKING:
    from mmclip.artifacts.workspace import Workspace
    from mmclip.datasets.import_files import ImportConfig
    from mmclip.plots import Figure
    from mmclip.results import Result
    from mmclip.tasks.search import Queries
    from mmclip.vectors.store import Store


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
        Path | None, Option(help="File of new objects, as `mmclip import` reads it; embedded now.")
    ] = None,
    columns: Annotated[
        str | None, Option(help="Which column of the file is what: flux=FLUX,wavelength_nm=WAVE.")
    ] = None,
    id_column: Annotated[str | None, Option(help="Column that names the file's objects.")] = None,
    air: Annotated[bool, Option("--air", help="Wavelengths of the file are in air.")] = False,
    error: Annotated[str, Option(help="Error of the file's values that have none: 1%.")] = "",
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
    shown: Annotated[
        str | None,
        Option(
            "--show",
            help="Columns of the data set beside each answer, by commas, or none. [default: "
            "position, G, class, labels, S/N]",
        ),
    ] = None,
    plot: Annotated[
        Path | None, Option(help="Picture of the queries and their answers (.png .pdf).")
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
) -> "Result":
    """Find the stars most like the given ones, within a view or across views."""
    from mmclip.cli.output import open_workspace, say, show
    from mmclip.datasets.build import open_dataset
    from mmclip.errors import UsageError
    from mmclip.tasks.search import Backend, allowed, answers, backend, default_view
    from mmclip.vectors.store import Store

    space = open_workspace(workspace)
    store = Store(space.get("vectors", vectors))
    start, to = (store.view(v) if v else None for v in (start, to))
    contrast = store.modality(contrast) if contrast else None
    if query_file:
        from mmclip.datasets.import_files import ImportConfig, parse_columns

        told = ImportConfig((), parse_columns(columns), id_column or "", air=air, error=error)
        queries, start = _new(space, store, query_file, start, contrast, told)
    else:
        start = start or default_view(store)
        queries = _known(space, store, query_id or [], start, contrast)
    only = None
    if where:
        data = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities[:1]))
        only = allowed(store, data, where)
    k = 10 if k is None and radius is None else k
    if index and device:
        raise UsageError("--device searches exactly, --index by that index", "one of the two")
    using = backend(space, store, to or start, index)
    if device:
        from mmclip.tasks.torch_search import on_device

        exact = on_device(store.vectors(to or start), device)
        using = Backend(exact) if exact else using
    found = answers(store, queries, start, to or start, k, radius, contrast, only, using)
    found = _beside(space, store, found, shown)

    def draw() -> "Figure":
        return _picture(space, store, queries, found, start, to or start, contrast)

    if plot:
        from mmclip.plots import save

        save(draw(), plot)
        say(f"wrote {plot}")
    if samp:
        _send(found, samp)
    return show(found, as_json, output, draw=draw)


def _beside(space: "Workspace", store: "Store", found: "Result", shown: str | None) -> "Result":
    """Answers with what the data set knows of each star, and a note of what was asked."""
    from mmclip.cli import inputs
    from mmclip.datasets.build import Dataset, read_objects
    from mmclip.errors import NotFound

    asked = f"asked: vectors {store.artifact.path.name}"
    try:
        data = space.parent(store.artifact, "data")
    except NotFound:  # it is gone: the vectors answer by themselves
        if shown not in (None, "none"):
            raise
        return found.noting(asked)
    if shown != "none":
        found = inputs.known(space, found, Dataset(data, read_objects(data)), shown)
    return found.noting(f"{asked} of data {data.path.name}")


def _known(
    space: "Workspace", store: "Store", texts: list[str], start: str, contrast: str | None
) -> "Queries":
    """Stars of the store as queries; `example` is a star of the test split."""
    from mmclip.cli.output import say
    from mmclip.datasets.build import read_objects
    from mmclip.datasets.names import ids_of
    from mmclip.errors import UsageError
    from mmclip.surveys import id_list
    from mmclip.tasks.search import example, stored

    ids: list[int] = []
    for text in texts:
        if text == "example":
            ids.append(example(store, start))
            say(f"for example {ids[-1]}, a star of the test split with {start}")
        elif text == "-":
            ids += id_list.read_dr3(Path("-"))
        else:
            named = [part for part in text.split(",") if part.strip()]
            ids += ids_of(
                named, store.source_id, lambda: read_objects(space.parent(store.artifact, "data"))
            )
    if not ids:
        raise UsageError(
            "search needs a star to start from",
            f"mmclip search --query-id {example(store, start)}",
        )
    return stored(store, list(dict.fromkeys(ids)), start, contrast)


def _new(
    space: "Workspace", store: "Store", file: Path, start: str | None, contrast: str | None,
    told: "ImportConfig",
) -> "tuple[Queries, str]":  # fmt: skip
    """Objects of a file as queries, and the view they are asked in."""
    from mmclip.cli.output import say
    from mmclip.clip.run import open_run
    from mmclip.tasks.embed_new import from_file

    data = space.parent(store.artifact, "data")
    run = open_run(space.parent(store.artifact, "run"))
    queries, start, lost, notes = from_file(run, file, start, contrast, data, told)
    for note in notes:
        say(f"note: {note}")
    for reason in sorted(set(lost)):
        say(f"left out {lost.count(reason)} of {file}: {reason}")
    return queries, start


def _picture(
    space: "Workspace", store: "Store", queries: "Queries", found: "Result", start: str, to: str,
    contrast: str | None,
) -> "Figure":  # fmt: skip
    from mmclip.datasets.build import open_dataset
    from mmclip.datasets.objects import raw_views
    from mmclip.plots import answers_figure

    data = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities))
    raw = raw_views(space, data.artifact)
    return answers_figure(data, raw, queries, found, start, to, contrast)


def _send(found: "Result", recipient: str) -> None:
    """Send the table to programs that listen to SAMP."""
    import tempfile

    from mmclip.cli.output import say, write
    from mmclip.surveys.client import samp

    folder = Path(tempfile.mkdtemp(prefix="mmclip-samp-"))  # the programs read it afterwards
    file = folder / "answers.vot"
    write(found, file)
    receivers = samp.send(file, "mmclip search", "" if recipient == "all" else recipient)
    say(f"sent {len(found)} rows to {', '.join(receivers)}")
