"""`mmclip export`: data for other programs."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Data, Where


def command(
    output: Annotated[Path, Option("-o", "--output", help="Directory to write into.")],
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
    workspace: Where = None,
) -> Path:
    """Write data for `datasets`, the Multimodal Universe or HATS."""
    from mmclip.cli.output import modelled, open_workspace, say
    from mmclip.datasets import export
    from mmclip.errors import UsageError

    space = open_workspace(workspace)
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
