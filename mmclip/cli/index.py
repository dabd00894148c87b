"""`mmclip index`."""

from typing import Annotated

from typer import Option

from mmclip.cli.options import Json, Output, Vectors, Where


def command(
    plan: Annotated[bool, Option("--plan", help="Cost of each kind of index, before any.")] = False,
    rows: Annotated[int | None, Option(min=1, help="Vectors. [default: of --vectors]")] = None,
    dimension: Annotated[
        int | None, Option(min=1, help="Of a vector. [default: of --vectors]")
    ] = None,
    probes: Annotated[int, Option(min=1, help="Inverted lists a query visits.")] = 32,
    vectors: Vectors = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Say what indexes over the vectors are, or (--plan) would cost."""
    from mmclip.cli import show
    from mmclip.errors import UsageError
    from mmclip.tasks import plan as planning
    from mmclip.vectors.store import Store

    if not plan and (rows or dimension):
        raise UsageError("--rows and --dimension belong to --plan", "mmclip index --plan ...")
    if rows is None or dimension is None:
        store = Store(show.workspace(workspace).get("vectors", vectors))
        if not plan:
            show.rows(
                list(store.artifact.manifest.notes["indexes"].values()),
                f"indexes of {store.artifact.path}", as_json, output,
            )  # fmt: skip
            return
        rows = rows or len(store.source_id)
        dimension = dimension or store.vectors(store.modalities[0]).shape[1]
    rates = planning.measure()
    show.say(
        f"measured here: {rates.operations / 1e9:.0f} GFLOP/s in a product, "
        f"{rates.bandwidth / 1e9:.1f} GB/s read; times are lower bounds derived from them"
    )
    answers = planning.plan(rows, dimension, rates, probes)
    show.rows(answers, f"{rows:,} vectors of {dimension}", as_json, output)
