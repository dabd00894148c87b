"""`mmclip train`."""

import dataclasses
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from mmclip.cli.options import Config, Data, Device, Force, Name, Seed, Where


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
    from mmclip.clip.train import train
    from mmclip.datasets.build import open_dataset
    from mmclip.modalities import meant
    from mmclip.training.covariance import untied

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
        for view in untied(opened, opened.views):
            output.say(
                f"{view} is redrawn by its errors alone: {stars.path.name} keeps no correlations "
                f"(mmclip preprocess --set {view}.correlations=true)"
            )
    place = space.place("run", name or "-".join(sorted(opened.views)))
    with progress() as tell:
        artifact = train(opened, resolved, place, tell, force, pictures)
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


def pictures(metrics: list[dict[str, Any]]) -> dict[str, bytes]:
    """Loss and recall by epoch, as pictures by file name."""
    from mmclip import plots

    aligned = [m for m in metrics if m["stage"] == "align"]
    made = {}
    for file, keys, label in (
        ("loss.png", ("train_loss", "loss"), "loss, nats"),
        ("recall.png", ("recall@1", "recall@5", "recall@10"), "recall, validation"),
    ):
        whole = [k for k in keys if aligned and all(k in m for m in aligned)]
        if whole:
            series = {
                {"loss": "validation", "train_loss": "training"}.get(k, k): [m[k] for m in aligned]
                for k in whole
            }
            figure = plots.curves_figure([m["epoch"] for m in aligned], series, label)
            made[file] = plots.png_bytes(figure)
    return made


def progress() -> AbstractContextManager[Any]:
    """What is told of a training: a live line on a terminal, one line in five epochs in a log."""
    from contextlib import nullcontext

    from rich.console import Console

    console = Console(stderr=True)
    return _Live(console) if console.is_terminal else nullcontext(_tell)


class _Live:
    """A progress bar of all steps with loss, recall@1, samples/s and the time left."""

    def __init__(self, console: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[numbers]}"), console=console,
        )  # fmt: skip
        self.task = self.bar.add_task("align", total=None, numbers="")
        self.shown: dict[str, str] = {}

    def __enter__(self) -> Any:
        self.bar.start()
        return self.tell

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def tell(self, entry: dict[str, Any]) -> None:
        for key, label in (
            ("train_loss", "loss"),
            ("loss", "validation"),
            ("recall@1", "recall@1"),
        ):
            if key in entry:
                self.shown[label] = f"{label} {entry[key]:.3f}"
        if "epoch" in entry:
            self.shown["epoch"] = f"epoch {entry['epoch']}"
            self.bar.update(self.task, description=entry["stage"])
        left = f"{entry['samples_per_second']:,.0f} samples/s  {entry['seconds_left']:.0f} s left"
        numbers = "  ".join([*self.shown.values(), left])
        self.bar.update(self.task, completed=entry["step"], total=entry["steps"], numbers=numbers)


def _tell(entry: dict[str, Any]) -> None:
    """One line in five epochs: a log can be read."""
    from mmclip.cli import output

    if "epoch" in entry and (entry["epoch"] % 5 == 0 or entry["seconds_left"] < 1e-6):
        loss = f"validation loss {entry['loss']:.4f}" if "loss" in entry else "no validation stars"
        recall = f"  recall@1 {entry['recall@1']:.3f}" if "recall@1" in entry else ""
        output.say(
            f"  {entry['stage']:8} epoch {entry['epoch']:4}  {loss}{recall}  "
            f"{entry['samples_per_second']:,.0f} samples/s  {entry['seconds_left']:.0f} s left"
        )
