"""`mmclip preprocess`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Config, Force, Name, Seed, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact
    from mmclip.artifacts.workspace import Workspace
    from mmclip.datasets.append import Addition


def command(
    modalities: Annotated[
        str | None, Option(help="Views to prepare, by commas. [default: all there are]")
    ] = None,
    raw: Annotated[
        list[str] | None,
        Option(help="Raw artefact; give it again to join several. [default: all that fit]"),
    ] = None,
    preset: Annotated[
        str | None, Option(help="schwarz2024, astrom3, astroclip, vrakkis, zhao2026: as published.")
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
    add_to: Annotated[
        str | None, Option(help="Data artefact whose settings and statistics new stars take.")
    ] = None,
    normalisation: Annotated[
        str | None, Option(help="z, mad or none, by the training split.")
    ] = None,
    labels: Annotated[
        Path | None, Option(help="Your table with source_id and labels, class or split.")
    ] = None,
    split: Annotated[
        str | None,
        Option(
            help="cells, 'random 80/10/10', 'labelled COLUMN', or as a paper has it: its name. "
            "[default: a column split if there is one, else the preset's, else cells]"
        ),
    ] = None,
    split_column: Annotated[
        str | None, Option(help="Column that says train, validation or test.")
    ] = None,
    holdout: Annotated[Path | None, Option(help="File of ids that are for test alone.")] = None,
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
) -> "Artifact | None":
    """Clean, join, split and normalise raw data into a data set; interrupted, it goes on."""
    from mmclip.artifacts import shards
    from mmclip.cli import output
    from mmclip.datasets import sharded
    from mmclip.datasets.append import add
    from mmclip.datasets.build import make, plan
    from mmclip.datasets.join import sources
    from mmclip.datasets.labels import read_labels
    from mmclip.datasets.settings import resolve
    from mmclip.readers.views import notes

    part = shards.asked(shard, merge)
    rule = f"column {split_column}" if split_column else split
    space = output.workspace(workspace)
    texts = [*(set_ or []), *([f"metadata.columns={columns}"] if columns else [])]
    flags = {"modalities": modalities, "normalisation": normalisation, "seed": seed,
             "preset": preset, "workers": workers, "set": texts or None, "split": rule,
             "holdout": str(holdout) if holdout else None}  # fmt: skip
    if add_to is not None:
        others = {"--modalities": modalities, "--normalisation": normalisation, "--seed": seed,
                  "--preset": preset, "--set": texts, "--like": like,
                  "--config": config, "--holdout": holdout}  # fmt: skip
        _refuse([n for n, value in others.items() if value])
        addition = _addition(space, add_to, raw, labels, workers, rule or "")
        if dry_run:
            output.table(addition.todo.rows(), f"would be added to {addition.stands.path}")
            return None
        names = [addition.stands.path.name, *(r.path.name for r in addition.todo.raws)]
        place = space.place("data", name or "+".join(names)[:100])
        if part is not None:
            sharded.prepare(addition.todo, place, *part, force, output.say, addition.stands)
            output.part(*part)
        elif merge:
            return _report(sharded.merge_addition(addition, place, merge, force, output.say))
        else:
            return _report(add(addition, place, force, output.say))
        return None
    settings, views = resolve(config, flags, space.get("data", like) if like else None)
    raws = [space.get("raw", r) for r in raw or []]
    raws = raws or space.fitting(sources(settings.modalities))
    if len(raws) > 1:
        joined = ", ".join(r.path.name for r in raws)
        output.say(f"note: joins the raw artefacts {joined} on source_id (--raw NAME takes one)")
    own = read_labels(labels, raws) if labels else None
    for note in notes(own) if own is not None else ():
        output.say(f"note: {labels}: {note}")
    todo = plan(raws, settings, views, own)
    if todo.rule:
        output.say(f"split {todo.rule}")
    for column, why in todo.kept.items():
        output.say(f"note: {column} is {why}")
    if dry_run:
        output.table(todo.rows(), "would be prepared from " + ", ".join(str(r.path) for r in raws))
        return None
    place = space.place("data", name or "+".join(r.path.name for r in raws)[:100])
    if part is not None:
        sharded.prepare(todo, place, *part, force, output.say)
        output.part(*part)
        return None
    if merge:
        artifact = sharded.merge(todo, place, merge, force, output.say)
    else:
        artifact = make(todo, place, force, output.say)
    _report(artifact)
    output.say("next: mmclip train")
    return artifact


def _report(artifact: "Artifact") -> "Artifact":
    from mmclip.cli import output

    manifest = artifact.manifest
    output.modelled(manifest.provenance)
    counts = [{"what": k, "rows": v} for k, v in manifest.rows.items()]
    output.table(counts, f"{artifact.path}")
    if "added" in manifest.notes:
        output.say(
            f"added {manifest.notes['added']} stars; {manifest.notes['already there']} stood "
            "already and were left as they are"
        )
        output.say(f"next: mmclip embed --add-to VECTORS --data {artifact.path.name}")
    return artifact


def _addition(
    space: "Workspace", add_to: str, raw: list[str] | None, labels: Path | None,
    workers: int | None, rule: str,
) -> "Addition":  # fmt: skip
    from mmclip.datasets.append import plan_addition, sources
    from mmclip.datasets.labels import read_labels

    stands = space.get("data", add_to)
    raws = [space.get("raw", r) for r in raw or []]
    raws = raws or space.fitting(sources(stands))
    own = read_labels(labels, raws) if labels else None
    return plan_addition(stands, raws, own, workers or 0, rule)


def _refuse(given: list[str]) -> None:
    from mmclip.errors import UsageError

    if given:
        raise UsageError(
            f"{', '.join(given)} cannot go with --add-to: new stars are prepared as those that "
            "stand",
            "leave it out, or make a data set of its own without --add-to",
        )
