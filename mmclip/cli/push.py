"""`mmclip push`: a run or a data set on a model hub."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mmclip.cli.options import Where


def command(
    what: Annotated[str, Argument(help="Run or data set: runs/NAME, data/NAME or a path.")],
    repository: Annotated[str, Argument(help="owner/name on the hub; made unless it is there.")],
    *,
    licence: Annotated[
        str, Option("--licence", "--license", help="Of the hub's list: cc-by-4.0, mit, ...")
    ],
    branch: Annotated[str | None, Option(help="To commit to. [default: main]")] = None,
    private: Annotated[
        bool, Option("--private", help="A new repository is shown to its owner alone.")
    ] = False,
    output: Annotated[
        Path | None, Option("-o", "--output", help="Only write the folder, and send nothing.")
    ] = None,
    workspace: Where = None,
) -> str:
    """Share a run or a data set on a model hub, with a card; prints its pinned address."""

    from mmclip import artifacts
    from mmclip.artifacts import hub
    from mmclip.cli.output import modelled, open_workspace, say, tell
    from mmclip.errors import MmclipError
    from mmclip.provenance import cards

    artifact = open_workspace(workspace).find(what, ("run", "data"))
    hub.parse(hub.SCHEME + repository)
    modelled(artifact.manifest.provenance)
    if output is not None:
        if output.exists() and any(output.iterdir()):
            raise MmclipError(f"{output} is not empty", "give a new directory with -o")
        with artifacts.assembling(output) as folder:
            cards.folder_of(artifact, folder, repository, licence)
        say(f"wrote {output}; nothing was sent")
        return str(output)
    with artifacts.scratch(artifact.path.parent) as temporary:
        folder = temporary / "push" / "repository"  # deeper than what `sweep` puts back
        folder.mkdir(parents=True)
        cards.folder_of(artifact, folder, repository, licence)
        text = f"{artifact.manifest.kind} {artifact.manifest.fingerprint[:12]}"
        commit = hub.upload(folder, repository, artifact.manifest.kind, text, private, branch)
    prefix = "datasets/" if artifact.manifest.kind == "data" else ""
    address = f"{hub.SCHEME}{prefix}{repository}@{commit}"
    tell(address)
    return address
