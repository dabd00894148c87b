"""`mmclip embed`."""

from pathlib import Path
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
    from mmclip import artifacts
    from mmclip.cli import show
    from mmclip.clip.run import open_run
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks import embed as embedding

    part = read_shard(shard)
    space = show.workspace(workspace)
    source = space.get("run", run)
    opened = open_run(source)
    stars = space.get("data", data) if data else space.parent(source, "data")
    place = space.place("vectors", name or source.path.name)
    dataset = open_dataset(stars, tuple(sorted(opened.shape.sizes)))
    if part is not None:
        here = parts_of(place, part[1])[part[0] - 1]
        with artifacts.building(here, replace=force) as folder:
            embedding.embed_shard(dataset, opened, folder, *part, device or "auto")
        show.say(f"wrote part {part[0]} of {part[1]}; when all are there: --merge {part[1]}")
        return
    parts = parts_of(place, merge) if merge else []
    work = parts[0].parent if parts and parts[0].parent.is_dir() else None
    with artifacts.building(place, replace=force, work=work) as folder:
        if merge:
            artifact = embedding.merge(dataset, opened, parts, folder, factory)
        else:
            artifact = embedding.embed(dataset, opened, folder, factory, device or "auto")
    if merge:
        artifacts.sweep(place.parent)  # the parts have served their turn
    show.modelled(artifact.manifest.provenance)
    show.table(list(artifact.manifest.notes["indexes"].values()), f"{place}")
    show.say("next: mmclip search --query-id ID, mmclip knn, mmclip outliers, mmclip generate")


def parts_of(place: Path, shards: int) -> list[Path]:
    """Where the parts of an artefact lie until they are joined: out of sight of other commands."""
    folder = place.with_name(f".parts-{place.name}")
    return [folder / f"{i}-of-{shards}" for i in range(1, shards + 1)]


def read_shard(text: str | None) -> tuple[int, int] | None:
    """`i/n` as (i, n).

    Raises:
        UsageError: If it is not 1 <= i <= n.
    """
    from mmclip.errors import UsageError

    if text is None:
        return None
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise UsageError(f"--shard '{text}' is not i/n with i from 1 to n", "--shard 1/4")
