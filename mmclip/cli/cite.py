"""`mmclip cite`: BibTeX and acknowledgements of what was used."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from mmclip.cli.options import Where


def command(
    artefact: Annotated[
        Path | None, Argument(help="Directory of an artefact. [default: all that was fetched]")
    ] = None,
    workspace: Where = None,
) -> str:
    """BibTeX and acknowledgements of exactly what an artefact holds."""
    from mmclip import artifacts
    from mmclip.cli.output import open_workspace, tell
    from mmclip.errors import NotFound
    from mmclip.surveys import references

    found = [artifacts.read(artefact)] if artefact else open_workspace(workspace).all("raw")
    surveys = [s for a in found for s in a.manifest.surveys]
    if not surveys:
        raise NotFound("there is nothing to cite: no survey was fetched", "mmclip fetch --help")
    names = list(dict.fromkeys(s["name"] for s in surveys))
    bibcodes = list(dict.fromkeys(c for s in surveys for c in s["citations"]))
    releases = dict.fromkeys(f"{s['name']} {s['release']}" for s in surveys)
    comments = ["; ".join(releases), *references.thanks(names, bibcodes)]
    text = "\n".join(f"% {c}" for c in comments)
    text += "\n\n" + "\n\n".join(references.entries(bibcodes))
    tell(text)
    return text
