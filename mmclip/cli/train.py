"""`mmclip train`."""

import dataclasses
import os
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Config, Data, Device, Force, Name, Seed, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact
    from mmclip.clip.settings import TrainConfig
    from mmclip.datasets.build import Dataset

SLOW = {"informer": "curve-cnn", "transformer": "cnn"}  # encoders, and what is quicker on a CPU


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
) -> "Artifact":
    """Train encoders that agree on one space; an interrupted training goes on."""
    from mmclip.cli import output
    from mmclip.cli.progress import progress
    from mmclip.clip.settings import resolve_settings
    from mmclip.clip.train import train
    from mmclip.datasets.build import open_dataset
    from mmclip.modalities import meant
    from mmclip.plots.training import pictures
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
    with progress(_quicker(resolved, opened)) as report:
        artifact = train(opened, resolved, place, report, force, pictures)
    if os.environ.get("RANK", "0") != "0":  # of torchrun: one process speaks for all
        return artifact
    output.say(f"{artifact.path}: trained; {artifact.manifest.notes['parameters']:,} parameters")
    output.say("next: mmclip embed")
    return artifact


def _quicker(settings: "TrainConfig", data: "Dataset") -> list[str]:
    """Options that make this training shorter, the most telling first."""
    from mmclip.clip.settings import model_shape

    found = []
    for view, encoder in model_shape(data.views, settings).encoders.items():
        if encoder in SLOW:
            found.append(f"--set views.{view}.encoder={SLOW[encoder]} (instead of {encoder})")
    if settings.generator_epochs and not settings.preset:
        found.append("--set generator_epochs=0 (no decoders)")
    if settings.epochs > 10:
        found.append(f"--epochs {max(10, settings.epochs // 4)}")
    return [*found, "a GPU"]
