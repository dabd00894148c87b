"""`mmclip tune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Config, Data, Device, Json, Output, Seed, Where

if TYPE_CHECKING:
    from mmclip.results import Result
    from mmclip.tasks.tune import Trial


def command(
    trials: Annotated[int, Option(min=1, help="Trainings in all, earlier ones counted.")] = 20,
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
    epochs: Annotated[int | None, Option(min=1, help="Passes over the data, each trial.")] = None,
    batch: Annotated[int | None, Option(min=2, help="Objects a step.")] = None,
    settings: Annotated[
        list[str] | None, Option("--set", help="Any setting of `mmclip train`, as KEY=VALUE.")
    ] = None,
    device: Device = None,
    seed: Seed = None,
    config: Config = None,
    name: Annotated[str, Option(help="Name of the study, under studies/.")] = "study",
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result":
    """Search for learning rate, decay, momentum and dropouts; an interrupted search goes on."""
    from mmclip.cli.output import modelled, say, show
    from mmclip.cli.output import workspace as open_workspace
    from mmclip.clip.settings import resolve_settings
    from mmclip.datasets.build import open_dataset
    from mmclip.errors import UsageError
    from mmclip.tasks.tune import tune

    flags = {
        "modalities": modalities, "encoders": encoders, "epochs": epochs, "batch": batch,
        "device": device, "seed": seed,
    }  # fmt: skip
    resolved = resolve_settings(preset, config, settings or [], flags)
    space = open_workspace(workspace)
    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"'{name}' cannot name a study", "use letters, digits, '-' and '_'")
    folder = space.root / "studies" / name
    opened = open_dataset(space.get("data", data), resolved.modalities)
    modelled({n: v.provenance for n, v in opened.views.items()})
    answer = show(tune(opened, resolved, folder, trials, _say), as_json, output)
    say(f"next: mmclip train --config {folder / 'best.toml'}")
    return answer


def _say(trial: "Trial") -> None:
    from mmclip.cli.output import say

    recall = "" if trial.recall is None else f"  recall@1 {trial.recall:.3f}"
    say(f"  trial {trial.number:3}  validation loss {trial.loss:.4f}{recall}")
