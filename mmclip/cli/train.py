"""`mmclip train`."""

from typing import Annotated, Any

from typer import Option

from mmclip.cli.options import Config, Data, Device, Force, Name, Seed, Where


def command(
    modalities: Annotated[
        str | None, Option(help="Views to align, by commas. [default: all of the data set]")
    ] = None,
    data: Data = None,
    encoders: Annotated[
        str | None, Option(help="One a modality, by commas. [default: each one's own]")
    ] = None,
    epochs: Annotated[int | None, Option(min=1, help="Passes over the data.")] = None,
    batch: Annotated[int | None, Option(min=2, help="Objects a step.")] = None,
    learning_rate: Annotated[float | None, Option(help="Peak learning rate.")] = None,
    device: Device = None,
    seed: Seed = None,
    config: Config = None,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> None:
    """Train encoders that agree on one space; an interrupted training goes on."""
    from mmclip.cli import show
    from mmclip.clip.train import TrainConfig, train
    from mmclip.config import resolve
    from mmclip.datasets.build import open_dataset

    flags = {
        "modalities": modalities, "encoders": encoders, "epochs": epochs, "batch": batch,
        "learning_rate": learning_rate, "device": device, "seed": seed,
    }  # fmt: skip
    settings = resolve(TrainConfig, "train", config, flags)
    space = show.workspace(workspace)
    opened = open_dataset(space.get("data", data), settings.modalities)
    show.modelled({n: v.provenance for n, v in opened.views.items()})
    place = space.place("run", name or "-".join(sorted(opened.views)))
    artifact = train(opened, settings, place, _tell, force)
    show.say(f"{artifact.path}: trained; {artifact.manifest.notes['parameters']:,} parameters")
    show.say("next: mmclip embed")


def _tell(entry: dict[str, Any]) -> None:
    """One line a tenth of the epochs: a log can be read, a terminal is not flooded."""
    from mmclip.cli import show

    if entry["epoch"] % 5 == 0 or entry["seconds_left"] < 1e-6:
        loss = f"validation loss {entry['loss']:.4f}" if "loss" in entry else "no validation stars"
        show.say(
            f"  {entry['stage']:8} epoch {entry['epoch']:4}  {loss}  "
            f"{entry['samples_per_second']:,.0f} samples/s  {entry['seconds_left']:.0f} s left"
        )
