"""`mmclip bench`: speed against a plain reference."""

from typing import Annotated

from typer import Argument, Option

from mmclip.cli.options import Json, Output, Seed


def command(
    name: Annotated[str, Argument(help="Benchmark: preprocess, ...")] = "preprocess",
    rows: Annotated[int | None, Option(min=2, help="Objects that are worked on.")] = None,
    repeats: Annotated[int | None, Option(min=1, help="Repeats; the best counts.")] = None,
    device: Annotated[
        str | None, Option(help="auto, cpu or cuda, where there is a choice.")
    ] = None,
    dimension: Annotated[int | None, Option(min=2, help="Of made vectors (search).")] = None,
    preset: Annotated[
        str | None, Option(help="One alone (train): astrom3, schwarz2024, astroclip or loss.")
    ] = None,
    batch: Annotated[int | None, Option(min=2, help="One alone (train).")] = None,
    seed: Seed = None,
    as_json: Json = False,
    output: Output = None,
) -> None:
    """Measure speed against a plain reference that gives the same answer."""
    from mmclip import plugins
    from mmclip.cli.output import show
    from mmclip.config import resolve
    from mmclip.results import from_rows
    from mmclip.tasks.bench import BenchConfig

    bench = plugins.load("tasks.bench", name, "BENCH")
    flags = {
        "rows": rows, "repeats": repeats, "device": device, "dimension": dimension, "seed": seed,
        "preset": preset, "batch": batch,
    }  # fmt: skip
    settings = resolve(BenchConfig, "bench", None, flags)
    show(from_rows(bench.run(settings), bench.title), as_json, output)
