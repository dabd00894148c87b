"""`mmclip embed`."""

from typing import Annotated

from typer import Option

from mmclip.cli.options import Data, Device, Force, Name, Where


def command(
    run: Annotated[str | None, Option(help="Trained run. [default: the newest]")] = None,
    data: Data = None,
    factory: Annotated[str, Option(help="FAISS factory string; Flat is exact.")] = "Flat",
    shard: Annotated[
        str | None, Option(help="Only this part, i/n with i from 1; --merge joins the parts.")
    ] = None,
    merge: Annotated[int | None, Option(min=1, help="Join this many parts.")] = None,
    device: Device = None,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> None:
    """Write the vectors of every star and an index over them."""
    from mmclip import artifacts, shards
    from mmclip.cli import show
    from mmclip.clip.run import open_run
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks import embed as embedding

    part = shards.asked(shard, merge)
    space = show.workspace(workspace)
    source = space.get("run", run)
    opened = open_run(source)
    stars = space.get("data", data) if data else space.parent(source, "data")
    place = space.place("vectors", name or source.path.name)
    dataset = open_dataset(stars, tuple(sorted(opened.shape.sizes)))
    if part is not None:
        embedding.embed_shard(dataset, opened, place, *part, device or "auto", force)
        show.say(f"wrote part {part[0]} of {part[1]}; when all are there: --merge {part[1]}")
        return
    with artifacts.building(place, replace=force) as folder:
        if merge:
            artifact = embedding.merge(dataset, opened, place, merge, folder, factory)
        else:
            artifact = embedding.embed(dataset, opened, folder, factory, device or "auto")
    if merge:
        shards.forget(place)
    show.modelled(artifact.manifest.provenance)
    show.table(list(artifact.manifest.notes["indexes"].values()), f"{place}")
    show.say("next: mmclip search --query-id ID, mmclip knn, mmclip outliers, mmclip generate")
