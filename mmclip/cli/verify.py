"""`mmclip verify`: every file against its manifest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from mmclip.cli.options import Where

if TYPE_CHECKING:
    from mmclip.results import Result, Row


def command(
    artefacts: Annotated[
        list[Path] | None, Argument(help="Directories. [default: all of the workspace]")
    ] = None,
    workspace: Where = None,
) -> "Result":
    """Check every file of artefacts against their manifests."""
    from mmclip import artifacts
    from mmclip.cli.output import open_workspace, tell
    from mmclip.errors import IntegrityError, NotFound, visible
    from mmclip.results import from_rows

    space = open_workspace(workspace)
    if artefacts:
        chosen = [p if p.exists() else space.find(str(p)).path for p in artefacts]
    else:
        folders = [space.place(k, "x").parent for k in artifacts.KINDS]
        inside = [p for f in folders if f.is_dir() for p in sorted(f.iterdir())]
        chosen = [p for p in inside if not p.name.startswith(".") and p.is_dir()]
        if not chosen:
            raise NotFound(f"the workspace '{space.root}' is empty", "mmclip demo")
    bad = []
    rows: list[Row] = []
    for path in chosen:
        try:
            artifact = artifacts.verify(artifacts.read(path))
            files = len(artifact.manifest.files)
            rows.append({"artefact": str(path), "state": "ok", "files": files})
            tell(f"ok       {visible(str(path))}  ({files} files)")
        except (IntegrityError, NotFound) as error:
            bad.append(error)
            tell(f"DAMAGED  {visible(f'{path}  {error.message}')}")
    if bad:
        raise IntegrityError(
            f"{len(bad)} of {len(chosen)} artefacts are damaged: {bad[0].message}", bad[0].hint
        )
    return from_rows(rows, f"every file of {len(rows)} artefacts against its manifest")
