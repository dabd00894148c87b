"""`mmclip info`: an artefact, its lineage, or all of the workspace."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from mmclip.cli.options import Json, Where

if TYPE_CHECKING:
    from mmclip.artifacts.workspace import Workspace
    from mmclip.results import Result


def command(
    artefact: Annotated[
        Path | None,
        Argument(help="Name or directory of an artefact. [default: all of the workspace]"),
    ] = None,
    lineage: Annotated[
        bool, Option("--lineage", help="Back to the surveys: every ancestor, with its query.")
    ] = False,
    plot: Annotated[Path | None, Option(help="The lineage as a picture (.png .pdf .svg).")] = None,
    as_json: Json = False,
    workspace: Where = None,
) -> "Result | None":
    """Describe an artefact, or list those of the workspace."""
    import dataclasses

    from mmclip import artifacts
    from mmclip.cli.output import hears, json_lines, open_workspace, say, show, table
    from mmclip.provenance import words
    from mmclip.results import from_rows

    if lineage or plot is not None:
        return _lineage(open_workspace(workspace), artefact, plot, as_json)
    if artefact is None:
        space = open_workspace(workspace)
        listed = [
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
        if not listed:
            say(f"the workspace '{space.root}' is empty; begin with: mmclip demo")
        if hears() or listed:
            return show(from_rows(listed, f"workspace {space.root}"), as_json, None)
        return None
    space = open_workspace(workspace)
    path = artefact if artefact.exists() else space.find(str(artefact)).path
    made = artifacts.read(path)
    body = dataclasses.asdict(made.manifest)
    if as_json:
        json_lines([body])
        return None
    modelled = [n for n, p in body["provenance"].items() if p == "modelled"]
    if modelled:
        say(f"note: {', '.join(modelled)} is MODELLED data, not observed")
    rows = [{"what": what, "value": value} for what, value in words.described(space, made)]
    answer = show(from_rows(rows, str(artefact)), False, None)
    files = body["files"]
    table(
        [{"file": n, "bytes": e["bytes"], "sha256": e["sha256"][:16]} for n, e in files.items()],
        f"{len(files)} files (--json has the settings and every sum)",
    )
    return answer


def _lineage(space: "Workspace", named: Path | None, plot: Path | None, as_json: bool) -> "Result":
    from mmclip import artifacts
    from mmclip.cli.output import json_lines, say, table
    from mmclip.provenance import lineage
    from mmclip.results import from_rows

    artifact = artifacts.read(named) if named else lineage.newest(space)
    steps = lineage.lineage(space, artifact)
    if plot is not None:
        from mmclip import plots

        boxes, arrows = lineage.drawing(steps)
        plots.save(plots.lineage_figure(boxes, arrows, f"lineage of {artifact.path.name}"), plot)
        say(f"wrote {plot}")
    told = lineage.table(steps)
    answer = from_rows(told, f"lineage of {artifact.path}")
    if as_json:
        json_lines(told)
        return answer
    shown = ("artefact", "fingerprint", "stands", "mmclip", "seed", "made", "surveys")
    table([{k: row[k] for k in shown} for row in told], f"lineage of {artifact.path}")
    for row in reversed(told):
        if row["command"]:
            say(f"$ {row['command']}")
    for text in lineage.queries(steps):
        say(text)
    return answer
