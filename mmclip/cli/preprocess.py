"""`mmclip preprocess`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Config, Force, Name, Seed, Where


def command(
    modalities: Annotated[
        str | None, Option(help="Views to prepare, by commas. [default: all there are]")
    ] = None,
    raw: Annotated[str | None, Option(help="Raw artefact. [default: the newest]")] = None,
    normalisation: Annotated[str | None, Option(help="z or mad, by the training split.")] = None,
    labels: Annotated[
        Path | None, Option(help="Your table with source_id and labels or class.")
    ] = None,
    seed: Seed = None,
    config: Config = None,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> None:
    """Clean, split and normalise raw data into a data set."""
    from mmclip import artifacts
    from mmclip.cli import show
    from mmclip.config import resolve
    from mmclip.datasets.build import PreprocessConfig, build
    from mmclip.datasets.labels import read_labels

    flags = {"modalities": modalities, "normalisation": normalisation, "seed": seed}
    settings = resolve(PreprocessConfig, "preprocess", config, flags)
    space = show.workspace(workspace)
    source = space.get("raw", raw)
    own = read_labels(labels) if labels else None
    place = space.place("data", name or source.path.name)
    with artifacts.building(place, replace=force) as folder:
        artifact = build(source, settings, folder, own)
    show.modelled(artifact.manifest.provenance)
    counts = [{"what": k, "rows": v} for k, v in artifact.manifest.rows.items()]
    show.table(counts, f"{place}")
    show.say("next: mmclip train")
