"""`mmclip info`."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from mmclip.cli.options import Json, Where


def command(
    artefact: Annotated[
        Path | None, Argument(help="Directory of an artefact. [default: all of the workspace]")
    ] = None,
    as_json: Json = False,
    workspace: Where = None,
) -> None:
    """Describe an artefact, or list those of the workspace."""
    import dataclasses

    from mmclip import artifacts
    from mmclip.cli import show

    if artefact is None:
        space = show.workspace(workspace)
        rows = [
            {
                "kind": kind,
                "path": str(a.path),
                "rows": a.manifest.rows.get("objects", a.manifest.rows.get("train")),
                "created": a.manifest.created,
                "fingerprint": a.manifest.fingerprint[:12],
            }
            for kind in artifacts.KINDS
            for a in space.all(kind)
        ]
        if not rows:
            show.say(f"the workspace '{space.root}' is empty; begin with: mmclip demo")
            return
        show.rows(rows, f"workspace {space.root}", as_json, None)
        return
    body = dataclasses.asdict(artifacts.read(artefact).manifest)
    if as_json:
        show.rows([body], "", True, None)
        return
    modelled = [n for n, p in body["provenance"].items() if p == "modelled"]
    if modelled:
        show.say(f"note: {', '.join(modelled)} is MODELLED data, not observed")
    files = body.pop("files")
    show.table(
        [
            {"what": k, "value": ", ".join(f"{a}={b}" for a, b in v.items())
             if isinstance(v, dict) else str(v)}
            for k, v in body.items()
        ],
        str(artefact),
    )  # fmt: skip
    show.table(
        [{"file": n, "bytes": e["bytes"], "sha256": e["sha256"][:16]} for n, e in files.items()],
        f"{len(files)} files",
    )
