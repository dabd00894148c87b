"""`mmclip verify`: every file against its manifest."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from mmclip.cli.options import Where


def command(
    artefacts: Annotated[
        list[Path] | None, Argument(help="Directories. [default: all of the workspace]")
    ] = None,
    workspace: Where = None,
) -> None:
    """Check every file of artefacts against their manifests."""
    from mmclip import artifacts
    from mmclip.cli.output import open_workspace
    from mmclip.errors import IntegrityError, NotFound, visible

    if artefacts:
        chosen = artefacts
    else:
        space = open_workspace(workspace)
        folders = [space.place(k, "x").parent for k in artifacts.KINDS]
        inside = [p for f in folders if f.is_dir() for p in sorted(f.iterdir())]
        chosen = [p for p in inside if not p.name.startswith(".") and p.is_dir()]
        if not chosen:
            raise NotFound(f"the workspace '{space.root}' is empty", "mmclip demo")
    bad = []
    for path in chosen:
        try:
            artifact = artifacts.verify(artifacts.read(path))
            print(f"ok       {visible(str(path))}  ({len(artifact.manifest.files)} files)")
        except (IntegrityError, NotFound) as error:
            bad.append(error)
            print(f"DAMAGED  {visible(f'{path}  {error.message}')}")
    if bad:
        raise IntegrityError(
            f"{len(bad)} of {len(chosen)} artefacts are damaged: {bad[0].message}", bad[0].hint
        )
