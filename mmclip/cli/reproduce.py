"""`mmclip reproduce`."""

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from mmclip.cli.options import Json, Output, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact
    from mmclip.artifacts.workspace import Workspace
    from mmclip.results import Result


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
) -> "Result":
    """Make an artefact again from its parents, with its own settings, and compare every file."""
    import shutil

    from mmclip import artifacts
    from mmclip.cli.output import say, show
    from mmclip.cli.output import workspace as open_workspace
    from mmclip.errors import Differs, MmclipError
    from mmclip.plots.training import pictures
    from mmclip.provenance import reproduce
    from mmclip.results import from_rows

    space = open_workspace(workspace)
    artifact = space.find(artefact)
    final = space.place(artifact.manifest.kind, keep) if keep else None
    if final is not None and final.exists():
        raise MmclipError(f"{final} exists already", "choose another --keep")
    _obstacles(space, artifact, deep, anyway)
    folder = reproduce.place(space, artifact, deep)
    with artifacts.locked(folder, "reproduction"):
        try:
            pairs = reproduce.reproduce(space, artifact, folder, deep, pictures, say)
        except MmclipError:  # a kill leaves what the same command goes on with; a refusal nothing
            shutil.rmtree(folder)
            raise
        files = [one for was, now in pairs for one in reproduce.compare(was, now)]
        if final is not None and pairs[-1][1].path != artifact.path:
            final.parent.mkdir(parents=True, exist_ok=True)
            pairs[-1][1].path.rename(final)
            say(f"kept as {final}")
        shutil.rmtree(folder)
    answer = show(
        from_rows((f.row for f in files), f"{artifact.path}: made again"), as_json, output
    )
    other = [f for f in files if f.verdict not in ("identical", "read again")]
    if other:
        named = ", ".join(f"{f.artefact}: {f.file}" for f in other[:5])
        raise Differs(
            f"{len(other)} of {len(files)} files of {artifact.path} were not made alike ({named})",
            f"mmclip info {artifact.path} --lineage",
        )
    made = sum(f.verdict == "identical" for f in files)
    read = f"; {len(files) - made} of raw data read again" if made < len(files) else ""
    say(f"{artifact.path} is reproduced: {made} files are identical{read}")
    return answer


def _obstacles(space: "Workspace", artifact: "Artifact", deep: bool, anyway: bool) -> None:
    """Refuse (or, with `anyway`, say) what is not as it was when the artefacts were made."""
    from mmclip.cli.output import say
    from mmclip.errors import MmclipError
    from mmclip.provenance import reproduce

    for one, found in reproduce.all_obstacles(space, artifact, deep):
        if found and not anyway:
            raise MmclipError(
                f"{one.path} was not made under what is here: {'; '.join(found)}",
                "the same command with --anyway compares all the same",
            )
        for text in found:
            say(f"note: {one.path}: {text}")
