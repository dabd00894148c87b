"""`mmclip search`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Json, Output, Vectors, Where


def command(
    query_id: Annotated[
        list[str] | None, Option("--query-id", help="Gaia source_id; repeatable, - for stdin.")
    ] = None,
    start: Annotated[str | None, Option("--from", help="View of the query.")] = None,
    to: Annotated[
        str | None, Option("--to", help="View of the answers. [default: as --from]")
    ] = None,
    k: Annotated[int, Option("-k", min=1, help="Answers a query.")] = 10,
    vectors: Vectors = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Find the stars most like the given ones, within a view or across views."""
    from mmclip.cli import show
    from mmclip.cli.fetch import read_ids
    from mmclip.errors import UsageError
    from mmclip.surveys import parse_source_id
    from mmclip.tasks.search import search
    from mmclip.vectors.store import Store

    store = Store(show.workspace(workspace).get("vectors", vectors))
    ids: list[int] = []
    for text in query_id or []:
        ids += read_ids(Path("-")) if text == "-" else [parse_source_id(text)]
    if not ids:
        example = int(store.source_id[0])
        raise UsageError("search needs a star to start from", f"mmclip search --query-id {example}")
    start = store.modality(start or ("xp" if "xp" in store.modalities else store.modalities[0]))
    answers = search(store, ids, start, store.modality(to or start), k)
    show.modelled(store.artifact.manifest.provenance)
    show.rows(answers, f"nearest by cosine, {start} -> {to or start}", as_json, output)
