"""`mmclip pretrain`."""

from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.artifacts import paths
from mmclip.cli.options import Config, Data, Device, Force, Json, Name, Output, Seed, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact


def command(
    modality: Annotated[str | None, Option(help="The view to learn from. [default: image]")] = None,
    method: Annotated[
        str | None, Option(help="moco, autoencoder or masked. [default: moco]")
    ] = None,
    encoder: Annotated[
        str | None, Option(help="Which encoder. [default: resnet, spender or spectrum-transformer]")
    ] = None,
    data: Data = None,
    epochs: Annotated[int | None, Option(min=1, help="Passes over the data.")] = None,
    batch: Annotated[int | None, Option(min=2, help="Objects a step.")] = None,
    learning_rate: Annotated[float | None, Option(help="Peak learning rate.")] = None,
    probe: Annotated[
        str | None, Option(help="Column to predict by k-NN, beside raw and untrained features.")
    ] = None,
    k: Annotated[int, Option("-k", min=1, help="Neighbours of the probe.")] = 16,
    device: Device = None,
    seed: Seed = None,
    config: Config = None,
    name: Name = None,
    force: Force = False,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Artifact":
    """Train one encoder on its view alone, without labels; an interrupted training goes on."""
    from mmclip.cli import output as show
    from mmclip.cli.progress import progress
    from mmclip.config import resolve
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks import pretrain

    flags = {
        "modality": modality, "method": method, "encoder": encoder, "epochs": epochs,
        "batch": batch, "learning_rate": learning_rate, "device": device, "seed": seed,
    }  # fmt: skip
    settings = resolve(pretrain.PretrainConfig, "pretrain", config, flags)
    space = show.workspace(workspace)
    opened = open_dataset(space.get("data", data), (settings.modality,))
    show.modelled({n: v.provenance for n, v in opened.views.items()})
    place = space.place("encoder", name or f"{settings.modality}-{settings.method}")
    with progress() as report:
        made = pretrain.pretrain(opened, settings, place, force, report)
    parameters = made.manifest.notes["parameters"]
    show.say(f"{made.path}: encoder of {parameters:,} parameters, by {settings.method}")
    if probe:
        rows = pretrain.probe(made, opened, probe, k, settings.device)
        show.rows(rows, f"k-NN (k = {k}), training to test objects", as_json, output)
        if text := pretrain.verdict(rows):
            show.say(text)
    show.say(
        f"next: mmclip train with views.{settings.modality}.encoder = "
        f'"{pretrain.encoder_name(settings)}", weights = "{made.path / paths.ENCODER}"'
    )
    return made
