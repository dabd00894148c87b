"""`mmclip train`."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from mmclip.cli.options import Config, Data, Device, Force, Name, Seed, Where

if TYPE_CHECKING:
    from mmclip.training.loop import Epoch


def command(
    modalities: Annotated[
        str | None, Option(help="Views to align, by commas. [default: all of the data set]")
    ] = None,
    preset: Annotated[
        str | None, Option(help="Settings of a published work; see docs/presets.md.")
    ] = None,
    data: Data = None,
    encoders: Annotated[
        str | None, Option(help="One a modality, by commas. [default: each one's own]")
    ] = None,
    epochs: Annotated[int | None, Option(min=1, help="Passes over the data.")] = None,
    batch: Annotated[int | None, Option(min=2, help="Objects a step.")] = None,
    encode_chunk: Annotated[
        int | None, Option(min=1, help="Objects encoded at a time: a large batch in small memory.")
    ] = None,
    learning_rate: Annotated[float | None, Option(help="Peak learning rate.")] = None,
    precision: Annotated[
        str | None, Option(help="Of the encoders: float32, bfloat16 or auto (bfloat16 on a GPU).")
    ] = None,
    compile: Annotated[
        bool | None, Option("--compile", help="Compile the encoders (torch.compile).")
    ] = None,
    settings: Annotated[
        list[str] | None,
        Option("--set", help="Any setting, as KEY=VALUE; views.xp.encoder=mlp for one view."),
    ] = None,
    device: Device = None,
    seed: Seed = None,
    config: Config = None,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> None:
    """Train encoders that agree on one space; an interrupted training goes on."""
    from mmclip.cli import output
    from mmclip.cli.progress import progress
    from mmclip.clip.train import train
    from mmclip.datasets.build import open_dataset
    from mmclip.modalities import meant
    from mmclip.training import correlations

    flags = {
        "modalities": modalities, "encoders": encoders, "epochs": epochs, "batch": batch,
        "encode_chunk": encode_chunk, "learning_rate": learning_rate, "precision": precision,
        "compile": compile, "device": device, "seed": seed,
    }  # fmt: skip
    resolved = resolve_settings(preset, config, settings or [], flags)
    space = output.workspace(workspace)
    stars = space.get("data", data)
    names = tuple(meant(n, stars.manifest.provenance) for n in resolved.modalities)
    resolved = dataclasses.replace(resolved, modalities=names)
    opened = open_dataset(stars, names)
    output.modelled({n: v.provenance for n, v in opened.views.items()})
    if resolved.noise:
        for view in correlations.lacking(opened, opened.views):
            output.say(
                f"{view} is redrawn by its errors alone: {stars.path.name} keeps no correlations "
                f"(mmclip preprocess --set {view}.correlations=true)"
            )
    place = space.place("run", name or "-".join(sorted(opened.views)))
    with progress() as report:
        artifact = train(opened, resolved, place, report, force, pictures)
    if os.environ.get("RANK", "0") != "0":  # of torchrun: one process speaks for all
        return
    output.say(f"{artifact.path}: trained; {artifact.manifest.notes['parameters']:,} parameters")
    output.say("next: mmclip embed")


def resolve_settings(
    preset: str | None, config: Path | None, words: list[str], flags: dict[str, Any]
) -> Any:
    """Flag over `--set` over `--config` over preset over default, as a `TrainConfig`."""
    from mmclip import papers
    from mmclip.clip.settings import TrainConfig
    from mmclip.config import assignments, merge, read_toml, resolve

    given = assignments(words)
    named = preset or given.get("preset") or (
        read_toml(config, "train").get("preset") if config else None
    )  # fmt: skip
    below = papers.settings(str(named), "train") if named else {}
    above = merge(given, {k: v for k, v in flags.items() if v is not None})
    return resolve(
        TrainConfig, "train", config, above | ({"preset": named} if named else {}), below
    )


def pictures(metrics: "list[Epoch]") -> dict[str, bytes]:
    """Loss and recall by epoch, as pictures by file name."""
    from mmclip import plots
    from mmclip.clip.stages import ALIGN

    aligned = [e for e in metrics if e.stage == ALIGN]
    lines = [e.line() for e in aligned]
    made = {}
    for file, names, label in (
        ("loss.png", {"train_loss": "training", "loss": "validation"}, "loss, nats"),
        ("recall.png", {f"recall@{k}": f"recall@{k}" for k in (1, 5, 10)}, "recall, validation"),
    ):
        whole = {k: shown for k, shown in names.items() if all(k in m for m in lines)}
        if aligned and whole:
            series = {shown: [m[k] for m in lines] for k, shown in whole.items()}
            figure = plots.curves_figure([e.epoch for e in aligned], series, label)
            made[file] = plots.png_bytes(figure)
    return made
