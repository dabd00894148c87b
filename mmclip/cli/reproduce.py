"""`mmclip reproduce`."""

from typing import Annotated, Any

from typer import Argument, Option

from mmclip.cli.options import Json, Output, Where


def command(
    artefact: Annotated[str, Argument(help="Artefact: runs/NAME, a path, or a name.")],
    deep: Annotated[
        bool, Option("--deep", help="Repeat its ancestors too, as far back as the raw data.")
    ] = False,
    anyway: Annotated[
        bool, Option("--anyway", help="Go on where code, libraries or machine are others.")
    ] = False,
    keep: Annotated[
        str | None, Option(help="Keep what was made, under this name. [default: remove it]")
    ] = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Make an artefact again from its parents, with its own settings, and compare every file."""
    import shutil

    from mmclip import artifacts
    from mmclip.cli import output as show
    from mmclip.cli.train import pictures
    from mmclip.errors import Differs, MmclipError
    from mmclip.provenance import reproduce as task

    space = show.workspace(workspace)
    artifact = space.find(artefact)
    final = space.place(artifact.manifest.kind, keep) if keep else None
    if final is not None and final.exists():
        raise MmclipError(f"{final} exists already", "choose another --keep")
    _obstacles(space, artifact, deep, anyway)
    folder = task.place(space, artifact, deep)
    with artifacts.locked(folder, "reproduction"):
        try:
            pairs = task.reproduce(space, artifact, folder, deep, pictures, show.say)
        except MmclipError:  # a kill leaves what the same command goes on with; a refusal nothing
            shutil.rmtree(folder)
            raise
        rows = [row for was, now in pairs for row in task.compare(was, now)]
        if final is not None and pairs[-1][1].path != artifact.path:
            final.parent.mkdir(parents=True, exist_ok=True)
            pairs[-1][1].path.rename(final)
            show.say(f"kept as {final}")
        shutil.rmtree(folder)
    show.rows(rows, f"{artifact.path}: made again", as_json, output)
    other = [r for r in rows if r["verdict"] not in ("identical", "read again")]
    if other:
        named = ", ".join(f"{r['artefact']}: {r['file']}" for r in other[:5])
        raise Differs(
            f"{len(other)} of {len(rows)} files of {artifact.path} were not made alike ({named})",
            f"mmclip info {artifact.path} --lineage",
        )
    made = sum(r["verdict"] == "identical" for r in rows)
    read = f"; {len(rows) - made} of raw data read again" if made < len(rows) else ""
    show.say(f"{artifact.path} is reproduced: {made} files are identical{read}")


def _obstacles(space: Any, artifact: Any, deep: bool, anyway: bool) -> None:
    """Refuse (or, with `anyway`, say) what is not as it was when the artefacts were made."""
    from mmclip.cli import output as show
    from mmclip.errors import MmclipError
    from mmclip.provenance import reproduce as task

    for one, found in task.all_obstacles(space, artifact, deep):
        if found and not anyway:
            raise MmclipError(
                f"{one.path} was not made under what is here: {'; '.join(found)}",
                "the same command with --anyway compares all the same",
            )
        for text in found:
            show.say(f"note: {one.path}: {text}")
