"""`mmclip preprocess`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Config, Force, Name, Seed, Where


def command(
    modalities: Annotated[
        str | None, Option(help="Views to prepare, by commas. [default: all there are]")
    ] = None,
    raw: Annotated[
        list[str] | None,
        Option(help="Raw artefact; give it again to join several. [default: all that fit]"),
    ] = None,
    preset: Annotated[
        str | None, Option(help="schwarz2024, astrom3, astroclip or vrakkis: as published.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        Option("--set", help="Setting of a modality: spectra.resampling=linear. Repeatable."),
    ] = None,
    columns: Annotated[
        str | None, Option(help="Your own metadata columns, by commas: metadata.columns=...")
    ] = None,
    like: Annotated[
        str | None, Option(help="Data artefact whose settings are used for new raw data.")
    ] = None,
    normalisation: Annotated[
        str | None, Option(help="z, mad or none, by the training split.")
    ] = None,
    labels: Annotated[
        Path | None, Option(help="Your table with source_id and labels or class.")
    ] = None,
    workers: Annotated[int | None, Option(min=0, help="Processes; 0: as fits.")] = None,
    shard: Annotated[
        str | None, Option(help="Only this part, i/n with i from 1; --merge joins the parts.")
    ] = None,
    merge: Annotated[int | None, Option(min=1, help="Join this many parts.")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be done; write nothing.")] = (
        False
    ),
    seed: Seed = None,
    config: Config = None,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> None:
    """Clean, join, split and normalise raw data into a data set; interrupted, it goes on."""
    from mmclip import shards
    from mmclip.cli import show
    from mmclip.datasets import sharded
    from mmclip.datasets.build import make, plan
    from mmclip.datasets.joined import sources
    from mmclip.datasets.labels import read_labels
    from mmclip.datasets.resolved import resolve

    part = shards.asked(shard, merge)
    space = show.workspace(workspace)
    texts = [*(set_ or []), *([f"metadata.columns={columns}"] if columns else [])]
    flags = {"modalities": modalities, "normalisation": normalisation, "seed": seed,
             "preset": preset, "workers": workers, "set": texts or None}  # fmt: skip
    settings, views = resolve(config, flags, space.get("data", like) if like else None)
    raws = [space.get("raw", r) for r in raw or []]
    raws = raws or space.fitting(sources(settings.modalities))
    own = read_labels(labels) if labels else None
    todo = plan(raws, settings, views, own)
    if dry_run:
        show.table(todo.rows(), "would be prepared from " + ", ".join(str(r.path) for r in raws))
        return
    place = space.place("data", name or "+".join(r.path.name for r in raws)[:100])
    if part is not None:
        sharded.prepare(todo, place, *part, force, show.say)
        show.say(f"wrote part {part[0]} of {part[1]}; when all are there: --merge {part[1]}")
        return
    if merge:
        artifact = sharded.merge(todo, place, merge, force, show.say)
    else:
        artifact = make(todo, place, force, show.say)
    show.modelled(artifact.manifest.provenance)
    counts = [{"what": k, "rows": v} for k, v in artifact.manifest.rows.items()]
    show.table(counts, f"{place}")
    show.say("next: mmclip train")
