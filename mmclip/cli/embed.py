"""`mmclip embed`."""

from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Data, Device, Force, Name, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact
    from mmclip.artifacts.workspace import Workspace
    from mmclip.vectors.store import Store


def command(
    run: Annotated[str | None, Option(help="Trained run. [default: the newest]")] = None,
    data: Data = None,
    factory: Annotated[str, Option(help="FAISS factory string; Flat is exact.")] = "Flat",
    add_to: Annotated[
        str | None, Option(help="Vectors artefact that the new stars of --data join.")
    ] = None,
    shard: Annotated[
        str | None, Option(help="Only this part, i/n with i from 1; --merge joins the parts.")
    ] = None,
    merge: Annotated[int | None, Option(min=1, help="Join this many parts.")] = None,
    device: Device = None,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> "Artifact | None":
    """Write the vectors of every star and an index over them."""
    from mmclip import artifacts
    from mmclip.artifacts import bundled, shards
    from mmclip.cli import output
    from mmclip.clip.run import open_run
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks import embed

    part = shards.asked(shard, merge)
    space = output.workspace(workspace)
    before = _before(space, add_to, run, factory) if add_to else None
    source = space.parent(before.artifact, "run") if before else space.get("run", run)
    opened = open_run(source)
    stars = space.get("data", data) if data or before else space.parent(source, "data")
    # The bundled run embeds any data set: the vectors are named after that.
    of = stars if before or source.path.name == bundled.NAME else source
    place = space.place("vectors", name or of.path.name)
    dataset = open_dataset(stars, tuple(sorted(opened.shape.sizes)))
    if part is not None:
        embed.embed_shard(dataset, opened, place, *part, device or "auto", force, before)
        output.part(*part)
        return None
    work = shards.folder(place) if merge else None
    with artifacts.building(place, replace=force, work=work) as folder:
        if merge:
            artifact = embed.merge(dataset, opened, place, merge, folder, factory, before)
        elif before is not None:
            artifact = embed.add(dataset, opened, before, folder, device or "auto")
        else:
            artifact = embed.embed(dataset, opened, folder, factory, device or "auto")
    if merge:
        shards.forget(place)
    output.modelled(artifact.manifest.provenance)
    output.table(list(artifact.manifest.notes["indexes"].values()), f"{place}")
    if before is not None:
        output.say(
            f"added {artifact.manifest.notes['added']} stars to the {len(before.source_id)} of "
            f"{before.artifact.path.name}, whose vectors are as they were"
        )
    output.say("next: mmclip search --query-id ID, mmclip knn, mmclip outliers, mmclip generate")
    return artifact


def _before(space: "Workspace", name: str, run: str | None, factory: str) -> "Store":
    """The vectors that stand, if nothing was asked for that would make others of them."""
    from mmclip.errors import UsageError
    from mmclip.vectors.store import Store

    found = space.get("vectors", name)
    its = space.parent(found, "run")
    if run and space.get("run", run).manifest.fingerprint != its.manifest.fingerprint:
        raise UsageError(f"{found.path} was made by the run {its.path.name}", "leave --run out")
    kept = found.manifest.config["factory"]
    if factory not in ("Flat", kept):
        raise UsageError(f"the index of {found.path} is {kept} and stays so", "leave --factory out")
    return Store(found)
