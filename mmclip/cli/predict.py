"""`mmclip predict`: a catalogue of labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Data, Force, Json, Name, Output, Vectors, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact
    from mmclip.artifacts.workspace import Workspace
    from mmclip.results import Result


def command(
    target: Annotated[
        str, Option(help="Columns to predict, by commas; a column of names gives a class.")
    ] = "teff,logg,fe_h,alpha_m",
    data: Data = None,
    file: Annotated[
        list[Path] | None, Option("--file", help="New stars: files as import reads; repeatable.")
    ] = None,
    source: Annotated[
        str | None, Option("--from", help="Data whose labels are learned. [default: --data]")
    ] = None,
    head: Annotated[
        str | None, Option("--head", help="A fitted head, instead of fitting one.")
    ] = None,
    method: Annotated[
        str,
        Option(
            help="auto, knn, ridge, kernel-ridge, mlp-ensemble, blend, boosting, mlp, knn-white, "
            "your own; several by commas for --compare."
        ),
    ] = "auto",
    on: Annotated[str, Option(help="view, vectors or both.")] = "view",
    views: Annotated[str | None, Option(help="Views, by commas. [default: all]")] = None,
    compare: Annotated[
        bool, Option("--compare", help="Print every head on test stars; no table.")
    ] = False,
    cut: Annotated[
        str | None, Option("--where", help="Learn from these stars only: 'snr > 50'.")
    ] = None,
    reader: Annotated[str | None, Option(help="Format of --file. [default: looked at]")] = None,
    columns: Annotated[str | None, Option(help="Of --file: flux=FLUX,wavelength=WAVE.")] = None,
    shard: Annotated[
        str | None, Option(help="Only this part of the stars, i/n, beside -o; needs --head.")
    ] = None,
    merge: Annotated[int | None, Option(min=1, help="Join this many parts into -o.")] = None,
    abstain: Annotated[float, Option(min=0, max=1, help="No class below this probability.")] = 0.0,
    bootstrap: Annotated[
        int, Option(min=0, help="Resamples for the 95 % intervals of the scores; 0: none.")
    ] = 200,
    seed: Annotated[int, Option(help="Seed of every random choice.")] = 42,
    vectors: Vectors = None,
    name: Name = None,
    force: Force = False,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result | None":
    """Predict labels, with errors that hold, for every star: a catalogue."""
    from mmclip.artifacts import shards
    from mmclip.cli import inputs
    from mmclip.cli.output import open_workspace, say, show, write
    from mmclip.errors import UsageError
    from mmclip.results import from_rows
    from mmclip.tasks.predict import COMPARED, catalogue, run, short

    part = shards.asked(shard, merge)
    if (part or merge) and (head is None or output is None or output.suffix != ".parquet"):
        raise UsageError("a part of the stars needs a head and a file",
                         "--head NAME --shard 1/8 -o labels.parquet")  # fmt: skip
    if merge and output is not None:
        write(catalogue.merged(output, merge), output)
        say(f"wrote {output}")
        return None
    if "," in method and not compare:
        raise UsageError(f"--method {method} names several heads, which are compared only",
                         "--compare, or one of them")  # fmt: skip
    space = open_workspace(workspace)
    if head is None:
        settings = run.PredictConfig(
            inputs.names(target), method, on, inputs.names(views), cut or "", seed
        )
        learned = space.get("data", source or data)
        fitting = run.fitting(space, learned, settings, vectors)
        if compare:
            rows = run.compare(fitting, bootstrap, say)
            result = from_rows(rows, "test stars; learned from train", COMPARED, learned)
            return show(result, as_json, output, short(result))
        made, rows = run.make(space, fitting, name, force, bootstrap, say)
        if rows and not as_json:
            show(from_rows(rows, "test stars; learned from train", COMPARED), False, None,
                 short(rows))  # fmt: skip
    else:
        made = space.get("head", head)
    return write_catalogue(
        space, made, data, file or [], vectors, as_json, output, reader, columns, part, abstain
    )


def write_catalogue(
    space: "Workspace", head: "Artifact", data: str | None, files: list[Path],
    vectors: str | None, as_json: bool, output: Path | None, reader: str | None = None,
    columns: str | None = None, part: tuple[int, int] | None = None, abstain: float = 0.0,
) -> "Result | None":  # fmt: skip
    """Predict all stars asked by a head, and print or write the table (a part of it)."""
    from dataclasses import replace

    from mmclip.cli.output import SHOWN, say, show
    from mmclip.tasks.predict import catalogue, run

    with catalogue.scratch() as folder:
        asked = run.asked(space, head, data, files, vectors, Path(folder), reader, columns)
        asked = replace(asked, abstain=abstain)
        for note in asked.notes:
            say(note)
        if part is not None and output is not None:
            path = catalogue.shard_path(output, *part)
            stars = catalogue.write_parquet(
                catalogue.blocks(asked, run.rows_of_shard(asked, *part)), path
            )
            say(f"wrote {stars} stars to {path}")
            return None
        if output is not None and output.suffix == ".parquet" and len(asked.stars) > run.LARGE:
            stars = catalogue.write_parquet(catalogue.blocks(asked), output)
            say(f"wrote {stars} stars to {output}, {catalogue.BLOCK} at a time")
            return None
        result = run.result(asked, head)
        return show(
            result, as_json, output, catalogue.short(result.head(SHOWN).table, asked.fitted)
        )
