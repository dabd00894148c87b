"""`mmclip info`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from mmclip.cli.options import Json, Where


def command(
    artefact: Annotated[
        Path | None, Argument(help="Directory of an artefact. [default: all of the workspace]")
    ] = None,
    lineage: Annotated[
        bool, Option("--lineage", help="Back to the surveys: every ancestor, with its query.")
    ] = False,
    plot: Annotated[Path | None, Option(help="The lineage as a picture (.png .pdf .svg).")] = None,
    as_json: Json = False,
    workspace: Where = None,
) -> None:
    """Describe an artefact, or list those of the workspace."""
    import dataclasses

    from mmclip import artifacts
    from mmclip.cli import output

    if lineage or plot is not None:
        _lineage(output.workspace(workspace), artefact, plot, as_json)
        return
    if artefact is None:
        space = output.workspace(workspace)
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
            output.say(f"the workspace '{space.root}' is empty; begin with: mmclip demo")
            return
        output.rows(rows, f"workspace {space.root}", as_json, None)
        return
    body = dataclasses.asdict(artifacts.read(artefact).manifest)
    if as_json:
        output.json_lines([body])
        return
    modelled = [n for n, p in body["provenance"].items() if p == "modelled"]
    if modelled:
        output.say(f"note: {', '.join(modelled)} is MODELLED data, not observed")
    files = body.pop("files")
    output.table(
        [
            {"what": k, "value": ", ".join(f"{a}={b}" for a, b in v.items())
             if isinstance(v, dict) else str(v)}
            for k, v in body.items()
        ],
        str(artefact),
    )  # fmt: skip
    output.table(
        [{"file": n, "bytes": e["bytes"], "sha256": e["sha256"][:16]} for n, e in files.items()],
        f"{len(files)} files",
    )


def _lineage(space: Any, named: Path | None, plot: Path | None, as_json: bool) -> None:
    from mmclip import artifacts
    from mmclip.cli import output
    from mmclip.provenance import lineage

    artifact = artifacts.read(named) if named else newest(space)
    steps = lineage.lineage(space, artifact)
    if plot is not None:
        from mmclip import plots

        boxes, arrows = lineage.drawing(steps)
        plots.save(plots.lineage_figure(boxes, arrows, f"lineage of {artifact.path.name}"), plot)
        output.say(f"wrote {plot}")
    rows = lineage.table(steps)
    if as_json:
        output.json_lines(rows)
        return
    shown = ("artefact", "fingerprint", "stands", "mmclip", "seed", "made", "surveys")
    output.table([{k: row[k] for k in shown} for row in rows], f"lineage of {artifact.path}")
    for row in reversed(rows):
        if row["command"]:
            output.say(f"$ {row['command']}")
    for text in lineage.queries(steps):
        output.say(text)


def newest(space: Any) -> Any:
    """The newest artefact furthest down the pipeline.

    Raises:
        NotFound: If the workspace is empty.
    """
    from mmclip import artifacts
    from mmclip.errors import NotFound

    for kind in reversed(artifacts.KINDS):
        found = space.all(kind)
        if found:
            return found[-1]
    raise NotFound(f"the workspace '{space.root}' is empty", "mmclip demo")
