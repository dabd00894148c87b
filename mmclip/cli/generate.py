"""`mmclip generate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from mmclip.cli.options import Data, Force, Json, Name, Output, Vectors, Where

if TYPE_CHECKING:
    from mmclip.plots import Figure
    from mmclip.results import Result

LISTED = 3  # stars whose pixels are printed


def command(
    start: Annotated[
        str | None, Option("--from", help="View that was observed; several by commas are fused.")
    ] = None,
    to: Annotated[str | None, Option("--to", help="View to generate.")] = None,
    query_id: Annotated[
        list[str] | None, Option("--query-id", help="Gaia source_id; repeatable.")
    ] = None,
    ids: Annotated[
        Path | None, Option(help="File with a source_id a line; - is standard input.")
    ] = None,
    everything: Annotated[
        bool, Option("--all", help="All stars with the view(s) --from, as an artefact.")
    ] = False,
    missing_only: Annotated[
        bool, Option("--missing-only", help="With --all: only stars that lack the view --to.")
    ] = False,
    shard: Annotated[
        str | None, Option(help="With --all: only this part, i/n; --merge joins the parts.")
    ] = None,
    merge: Annotated[int | None, Option(min=1, help="With --all: join this many parts.")] = None,
    draws: Annotated[int, Option(min=0, max=1000, help="Samples a star.")] = 0,
    seed: Annotated[int, Option(min=0, max=2**32 - 1, help="Seed of the samples.")] = 42,
    decoder: Annotated[
        str | None,
        Option(help="Decoder artefact, or `run`: the quick one. [default: the newest that fits]"),
    ] = None,
    k: Annotated[int, Option("-k", min=1, help="Neighbours of the baseline.")] = 13,
    opponents: Annotated[
        bool, Option("--opponents", help="A plain network among the baselines too.")
    ] = False,
    plot: Annotated[
        Path | None, Option(help="Picture of the first stars, or of the calibration.")
    ] = None,
    vectors: Vectors = None,
    data: Data = None,
    name: Name = None,
    force: Force = False,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result | None":
    """Generate a view from others; without stars, compare with baselines on test stars."""
    from mmclip import plots
    from mmclip.artifacts import shards
    from mmclip.cli import inputs
    from mmclip.cli import output as show
    from mmclip.datasets.names import ids_of
    from mmclip.datasets.objects import of_curves, periods, raw_views
    from mmclip.errors import UsageError
    from mmclip.tasks import generate
    from mmclip.tasks.generate import dataset as complete
    from mmclip.tasks.generate import files
    from mmclip.tasks.generate.choice import decoder_for, views

    part = shards.asked(shard, merge)
    space, store, dataset, run = inputs.with_run(workspace, vectors, data)
    names, target = views(store, start, to)
    trained = decoder_for(space, run, dataset, names, target, decoder)
    show.modelled(store.artifact.manifest.provenance)
    if everything:
        called = name or f"{store.artifact.path.name}-{'+'.join(names)}-{target}"
        lacking = complete.lacking(store, trained, missing_only)
        reads = generate.read_by(trained, store, dataset)
        todo = complete.Completion(store, trained, lacking, draws, seed, complete.SHARD, reads)
        _complete(todo, space.place("generated", called), part, merge, force)
        return None
    alone = {"--missing-only": missing_only, "--shard": part, "--merge": merge}
    for option in [n for n, value in alone.items() if value]:
        raise UsageError(f"{option} belongs to --all", "add --all")
    asked = ids_of([*(query_id or []), *_lines(ids)], store.source_id, lambda: dataset.objects)
    if not asked:
        scores = generate.compare(
            store, dataset, run, names, target, k=k, trained=trained, opponents=opponents
        )
        if plot:
            plots.save(_calibration(store, dataset, run, trained), plot)
            show.say(f"wrote {plot}")
        show.say(generate.verdict(scores))
        return show.show(
            scores, as_json, output, draw=lambda: _calibration(store, dataset, run, trained)
        )
    places = store.rows(asked)
    chunks = generate.stream(store, trained, places, dataset, draws, seed)
    head, chunks = files.first(chunks)

    def draw() -> "Figure":
        modality, known = dataset.modality(target), dict[int, float]()
        if of_curves(modality):
            known = periods(dataset, raw_views(space, dataset.artifact))
        zero = str(getattr(modality.settings, "zero", ""))
        return plots.generated_figure(head, range(len(head.source_id)), known, zero)

    if plot:
        plots.save(draw(), plot)
        show.say(f"wrote {plot}")
    if output is not None and output.suffix in (".parquet", ".fits"):
        stars = files.write(map(_warn, chunks), output)
        show.say(f"wrote {stars} stars to {output}")
    else:
        _warn(head)
    shown = generate.table(head)
    elsewhere = output if output is None or output.suffix not in (".parquet", ".fits") else None
    if as_json or elsewhere is not None:
        if len(asked) > len(head.source_id):
            raise UsageError(f"{len(asked)} stars are too many for this", "-o FILE.parquet")
    elif not show.hears():
        shown = shown.head(LISTED * len(head.labels))
    return show.show(shown, as_json, elsewhere, draw=draw)


def _lines(ids: Path | None) -> list[str]:
    import sys

    from mmclip.errors import NotFound

    if ids is None:
        return []
    try:
        text = sys.stdin.read() if str(ids) == "-" else ids.read_text()
    except OSError as error:
        raise NotFound(f"there is no file {ids}", "--ids FILE, a source_id a line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _warn(made: Any) -> Any:
    from mmclip.cli import output as show

    far = made.outside.nonzero()[0]
    for i in far[:LISTED]:
        show.say(
            f"warning: {made.source_id[i]} lies outside the training stars: an extrapolation "
            f"(distance {made.distance[i]:.3g})"
        )
    if len(far) > LISTED:
        show.say(f"warning: {len(far) - LISTED} more stars lie outside the training stars")
    return made


def _complete(
    todo: Any, place: Path, part: tuple[int, int] | None, merge: int | None, force: bool
) -> None:
    from mmclip.cli import output as show
    from mmclip.tasks.generate import dataset as complete

    def tell(done: int, of: int) -> None:
        show.say(f"  {done:,} of {of:,} stars")

    if part is not None:
        complete.complete_shard(todo, place, *part, force, tell)
        show.part(*part)
        return
    if merge:
        artifact = complete.merge(todo, place, merge, force)
    else:
        artifact = complete.complete(todo, place, force, tell)
    counts = artifact.manifest.rows
    show.say(
        f"{artifact.path}: {todo.trained.to} of {counts['objects']} stars GENERATED from "
        f"{'+'.join(todo.trained.start)}; {counts['outside']} lie outside the training stars"
    )


def _calibration(store: Any, dataset: Any, run: Any, trained: Any) -> "Figure":
    import numpy as np

    from mmclip import plots
    from mmclip.tasks import generate
    from mmclip.tasks.generate import calibrate
    from mmclip.tasks.generate.decoder import observed, spread

    seen = observed(generate.inputs(store, trained.start)) & store.of("test")
    seen &= observed(store.vectors(trained.to))
    rows = spread(np.flatnonzero(seen), generate.COMPARED)
    made = generate.generate(store, dataset, run, trained.start, trained.to, rows, trained)
    z = generate.residuals(made)
    parts = np.arange(0.05, 1.0, 0.05)
    return plots.calibration_figure(
        calibrate.pit(made.calibration, z), parts,
        [calibrate.coverage(made.calibration, z, float(p)) for p in parts],
        title=f"{made.to} from {made.start}: {len(z)} test stars",
    )  # fmt: skip
