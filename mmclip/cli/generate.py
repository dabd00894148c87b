"""`mmclip generate`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Data, Json, Output, Vectors, Where


def command(
    start: Annotated[str | None, Option("--from", help="View that was observed.")] = None,
    to: Annotated[str | None, Option("--to", help="View to generate.")] = None,
    query_id: Annotated[
        list[str] | None, Option("--query-id", help="Gaia source_id; repeatable.")
    ] = None,
    plot: Annotated[Path | None, Option(help="Picture of the first star (.png .pdf).")] = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Generate a view from another; without --query-id, compare with baselines on test stars."""
    from mmclip.cli import show
    from mmclip.clip.run import open_run
    from mmclip.datasets.build import open_dataset
    from mmclip.surveys import parse_source_id
    from mmclip.tasks import generate
    from mmclip.vectors.store import Store

    space = show.workspace(workspace)
    store = Store(space.get("vectors", vectors))
    stars = space.get("data", data) if data else space.parent(store.artifact, "data")
    dataset = open_dataset(stars, tuple(store.modalities))
    run = open_run(space.parent(store.artifact, "run"))
    start = store.modality(start or store.modalities[0])
    others = [m for m in store.modalities if m != start]
    to = store.modality(to or ("xp" if "xp" in others else others[0]))
    show.modelled(store.artifact.manifest.provenance)
    if not query_id:
        rows = generate.compare(store, dataset, run, start, to)
        show.rows(rows, f"{start} -> {to} on test stars", as_json, output)
        return
    places = store.rows([parse_source_id(text) for text in query_id])
    made = generate.generate(store, dataset, run, start, to, places)
    for source_id, far, distance in zip(made.source_id, made.outside, made.distance, strict=True):
        if far:
            show.say(f"warning: {source_id} lies outside the training stars ({distance:.3f})")
    if plot:
        from mmclip import plots

        figure = generated_figure(made, 0)
        plots.save(figure, plot)
        show.say(f"wrote {plot}")
    show.rows(generate.table(made), f"generated {to} from {start}", as_json, output)


def generated_figure(made, row: int):  # type: ignore[no-untyped-def]
    """The figure of one generated star; a view without an axis has none."""
    from mmclip import plots
    from mmclip.errors import UsageError

    if made.axis is None:
        raise UsageError(f"{made.to} has no wavelength axis to draw", "leave --plot out")
    return plots.generated_figure(
        made.axis, made.observed[row], made.error[row], made.mean[row], made.sigma[row],
        title=f"{made.to} of {made.source_id[row]} from its {made.start}",
        modelled=made.provenance == "modelled",
    )  # fmt: skip
