"""`mmclip import`: your own files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from mmclip.cli.options import Force, Name, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact


def command(
    files: Annotated[list[Path], Argument(help="Files, or directories of files.")],
    views: Annotated[
        list[str] | None,
        Option(
            "--as",
            help="What they hold: xp, rvs, spectra, photometry (lightcurve), metadata, image, or a "
            "modality of yours; repeatable.",
        ),
    ] = None,
    columns: Annotated[
        str | None, Option(help='Which column is what: "flux=FLUX,wavelength=WAVE".')
    ] = None,
    id_column: Annotated[str | None, Option(help="The column that names the objects.")] = None,
    ids: Annotated[
        Path | None, Option(help="Table of own ids and source_id, which gives Gaia ids.")
    ] = None,
    survey: Annotated[
        str | None, Option(help="Whose names the objects bear. [default: the file's survey]")
    ] = None,
    air: Annotated[bool, Option("--air", help="Wavelengths are in air: convert.")] = False,
    provenance: Annotated[str, Option(help="observed or modelled.")] = "observed",
    repeats: Annotated[
        str, Option(help="Several rows of an object: best, first, merge or refuse.")
    ] = "best",
    reader: Annotated[
        str | None, Option(help="Format of the files, or a reader of yours. [default: looked at]")
    ] = None,
    error: Annotated[
        str, Option(help="Error of values that have none: 1%, or a number in their unit.")
    ] = "",
    error_scale: Annotated[
        float, Option(help="Factor on errors that are known to be too small (or too large).")
    ] = 1.0,
    explain: Annotated[
        bool, Option("--explain", help="Show how the files would be read; write nothing.")
    ] = False,
    strict: Annotated[
        bool, Option("--strict", help="A note or a row left out is an error (exit code 5).")
    ] = False,
    into: Annotated[str | None, Option(help="Add to this import instead.")] = None,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> "Artifact | None":
    """Import your own files: spectra, light curves, tables, images."""
    import re

    from mmclip.cli.output import SHOWN, modelled, open_workspace, say, table
    from mmclip.datasets import import_files
    from mmclip.datasets.ingest import complain
    from mmclip.errors import UsageError
    from mmclip.readers.files import stem

    settings = import_files.ImportConfig(
        tuple(views or ()), import_files.parse_columns(columns), id_column or "", survey or "", air,
        provenance, repeats, reader or "", error, error_scale,
    )  # fmt: skip
    if explain:
        found, said = import_files.explain(files, settings)
        several = len({row["file"] for row in found}) > 1
        shown = [{k: v for k, v in row.items() if several or k != "file"} for row in found]
        for start in range(0, len(shown), SHOWN):
            table(shown[start : start + SHOWN], "how the files would be read")
        for line in said:
            say(line)
        return None
    if into is not None and name is not None:
        raise UsageError("--into adds to an import that has a name", "leave --name out")
    space = open_workspace(workspace)
    earlier = None
    if into is not None:
        earlier = space.get("raw", into)
        place = earlier.path
        if earlier.manifest.config.get("survey") != "import":
            raise UsageError(f"{place} was fetched, not imported", "mmclip import --name NAME")
    else:
        plain = re.sub(r"[^\w.+-]+", "-", stem(files[0].resolve())).strip("-.") or "imported"
        place = space.place("raw", name or plain)
    artifact, written = import_files.bring(
        files, settings, place, crosswalk=ids, into=earlier, replace=force, strict=strict
    )
    modelled(artifact.manifest.provenance)
    counts = [{"what": k, "rows": v} for k, v in artifact.manifest.rows.items()]
    say(f"{place}" if written else f"{place}: imported before, nothing to do")
    table(counts, "imported")
    for line in import_files.lines(artifact):
        say(line)
    complain(artifact)
    say("next: mmclip preprocess")
    return artifact
