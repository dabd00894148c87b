"""`mmclip index`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from mmclip.artifacts import paths
from mmclip.cli.options import Json, Output, Vectors, Where

if TYPE_CHECKING:
    from mmclip.artifacts.workspace import Workspace
    from mmclip.results import Result


def command(
    plan: Annotated[bool, Option("--plan", help="Cost of each kind of index, before any.")] = False,
    rows: Annotated[int | None, Option(min=1, help="Vectors. [default: of --vectors]")] = None,
    dimension: Annotated[
        int | None, Option(min=1, help="Of a vector. [default: of --vectors]")
    ] = None,
    probes: Annotated[int, Option(min=1, help="Inverted lists a query visits.")] = 32,
    add: Annotated[
        bool, Option("--add", help="Make an index in parts, or add the stars it lacks.")
    ] = False,
    index: Annotated[
        str | None, Option(help="Index in parts. [default: named as the vectors]")
    ] = None,
    factory: Annotated[
        str | None, Option(help="Of a new one: FAISS factory string. [default: Flat]")
    ] = None,
    part_rows: Annotated[
        int | None, Option(min=1, help="Of a new one: vectors a part. [default: 4000000]")
    ] = None,
    sample: Annotated[
        int | None, Option(min=1, help="Of a new one: trained on so many. [default: 1000000]")
    ] = None,
    vectors: Vectors = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result":
    """Say what indexes over the vectors are or (--plan) would cost; --add makes one in parts."""
    from mmclip.cli.output import rows as show_rows
    from mmclip.cli.output import say
    from mmclip.cli.output import workspace as open_workspace
    from mmclip.errors import UsageError
    from mmclip.vectors import index_cost
    from mmclip.vectors.store import Store

    asked: dict[str, Any] = {
        "factory": factory, "rows": part_rows, "sample": sample,
    }  # fmt: skip
    if add:
        return _add(open_workspace(workspace), vectors, index, asked, as_json, output)
    if index or any(asked.values()):
        raise UsageError(
            "--index, --factory, --part-rows and --sample belong to --add", "mmclip index --add ..."
        )
    if not plan and (rows or dimension):
        raise UsageError("--rows and --dimension belong to --plan", "mmclip index --plan ...")
    if rows is None or dimension is None:
        store = Store(open_workspace(workspace).get("vectors", vectors))
        if not plan:
            own = list(store.artifact.manifest.notes["indexes"].values())
            answer = show_rows(own, f"indexes of {store.artifact.path}", as_json, output)
            for artifact in open_workspace(workspace).all("index"):
                more = list(artifact.manifest.notes["indexes"].values())
                show_rows(more, f"index in parts {artifact.path}", as_json, None)
            return answer
        rows = rows or len(store.source_id)
        dimension = dimension or store.vectors(store.modalities[0]).shape[1]
    rates = index_cost.measure()
    say(
        f"measured here: {rates.operations / 1e9:.0f} GFLOP/s in a product, "
        f"{rates.bandwidth / 1e9:.1f} GB/s read; times are lower bounds derived from them"
    )
    answers = index_cost.plan(rows, dimension, rates, probes)
    return show_rows(answers, f"{rows:,} vectors of {dimension}", as_json, output)


def _add(
    space: "Workspace", vectors: str | None, name: str | None,
    asked: dict[str, Any], as_json: bool, output: Path | None,
) -> "Result":  # fmt: skip
    from mmclip import artifacts
    from mmclip.cli.output import rows as show_rows
    from mmclip.cli.output import say
    from mmclip.errors import UsageError
    from mmclip.vectors import sharded_build
    from mmclip.vectors.store import Store

    store = Store(space.get("vectors", vectors))
    place = space.place("index", name or store.artifact.path.name)
    old = artifacts.read(place) if (place / paths.MANIFEST).is_file() else None
    given = {k: v for k, v in asked.items() if v is not None}
    plan = sharded_build.plan_of(old) if old else sharded_build.Plan(**given)
    for key, value in given.items():
        if getattr(plan, key) != value:
            raise UsageError(
                f"the index {place} stands with {key} {getattr(plan, key)}, not {value}",
                "another one: --index NAME",
            )
    made = sharded_build.add(store, plan, place, old)
    if made is old:
        say(f"{place} holds every star of {store.artifact.path} already")
    answer = show_rows(list(made.manifest.notes["indexes"].values()), str(place), as_json, output)
    say(f"next: mmclip search --index {place.name} --query-id ID")
    return answer
