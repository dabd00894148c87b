"""`mmclip pull`: a run or a data set that somebody shared."""

from typing import TYPE_CHECKING, Annotated

from typer import Argument

from mmclip.cli.options import Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact


def command(
    address: Annotated[
        str, Argument(help="hf://owner/name@revision; hf://datasets/owner/name for a data set.")
    ],
    workspace: Where = None,
) -> "Artifact":
    """Bring a shared run or data set into the workspace, every file checked."""
    from mmclip.artifacts import hub
    from mmclip.cli.output import modelled, open_workspace, say
    from mmclip.errors import UsageError

    if not address.startswith(hub.SCHEME):
        raise UsageError(f"'{address}' is no address of a hub", f"{hub.SCHEME}{address}")
    found = open_workspace(workspace).find(address, ("run", "data"))
    modelled(found.manifest.provenance)
    say(f"{found.path}: {found.manifest.kind} {found.manifest.fingerprint[:12]}")
    return found
