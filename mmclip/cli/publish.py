"""`mmclip publish`: a catalogue that others join by source_id."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mmclip.cli.options import Data, Where


def command(
    what: Annotated[
        str | None,
        Argument(help="Vectors, head, map, generated, or a .parquet file. [default: new vectors]"),
    ] = None,
    *,
    hats: Annotated[Path, Option("--hats", help="Directory of the new HATS catalogue.")],
    data: Data = None,
    name: Annotated[str | None, Option(help="Of the catalogue. [default: its directory's]")] = None,
    workspace: Where = None,
) -> Path:
    """Write embeddings, labels, maps or scores as a HATS catalogue that lsdb joins."""
    from mmclip.artifacts import Artifact
    from mmclip.cli.output import modelled, open_workspace, say
    from mmclip.tasks import publish

    space = open_workspace(workspace)
    source: Artifact | Path
    if what is None:
        source = space.get("vectors")
    elif what.endswith(".parquet") and Path(what).is_file():
        source = Path(what)
    else:
        source = space.find(what, publish.KINDS)
    stars = space.get("data", data) if data else None
    made = publish.publish(space, source, hats, name or hats.name, stars)
    if isinstance(source, Artifact):
        modelled(source.manifest.provenance)
    say(f"{hats}: {made.rows} rows in {made.pixels} pixels, {made.bytes / 1e6:.1f} MB")
    say(f"next: lsdb.open_catalog('{hats}')")
    return hats
