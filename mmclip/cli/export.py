"""`mmclip export`: data and encoders for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from mmclip.cli.options import Data, Where

if TYPE_CHECKING:
    from mmclip.artifacts.workspace import Workspace


def command(
    run: Annotated[str | None, Argument(help="Run of --onnx. [default: the newest]")] = None,
    output: Annotated[
        Path | None, Option("-o", "--output", help="Directory to write data into.")
    ] = None,
    form: Annotated[
        str,
        Option("--format", help="datasets (a data artefact) or mmu (a raw one)."),
    ] = "datasets",
    data: Data = None,
    raw: Annotated[str | None, Option(help="Raw artefact. [default: the newest]")] = None,
    view: Annotated[
        str | None,
        Option(help="mmu: xp_coefficients, spectra, photometry, image; objects: labels alone."),
    ] = None,
    layout: Annotated[str, Option(help="mmu: parquet, hdf5 or hats.")] = "parquet",
    onnx: Annotated[
        Path | None, Option(help="Directory for the run's encoders, VIEW.onnx each (extra onnx).")
    ] = None,
    workspace: Where = None,
) -> Path:
    """Write data for `datasets`, the Multimodal Universe or HATS, or encoders as ONNX."""
    from mmclip.cli.output import modelled, open_workspace, say
    from mmclip.datasets import export
    from mmclip.errors import UsageError

    space = open_workspace(workspace)
    if onnx is not None:
        _encoders(space, run, onnx, view)
        return onnx
    if run is not None:
        raise UsageError("a run is exported as ONNX", f"mmclip export {run} --onnx FOLDER")
    if output is None:
        raise UsageError("where to is not said", "-o FOLDER, or --onnx FOLDER for encoders")
    if form == "datasets":
        source = space.get("data", data)
        done = export.to_datasets(source, output)
    elif form == "mmu":
        source = space.get("raw", raw)
        done = export.to_mmu(source, output, view, layout)
    else:
        raise UsageError(f"--format '{form}' is not known", "--format datasets or --format mmu")
    modelled(source.manifest.provenance)
    say(f"{output}: {done.rows} rows in {len(done.files)} files")
    for reason, count in done.left_out.items():
        say(f"left out: {reason}: {count}")
    return output


def _encoders(space: "Workspace", run: str | None, folder: Path, view: str | None) -> None:
    from mmclip.cli import inputs
    from mmclip.cli.output import modelled, say
    from mmclip.clip.onnx_export import export
    from mmclip.clip.run import open_run

    opened = open_run(space.get("run", run))
    for made in export(opened, folder, inputs.names(view)):
        say(f"{made.path}: {made.view}, within {made.difference:.1g} of torch")
    modelled(opened.artifact.manifest.provenance)
