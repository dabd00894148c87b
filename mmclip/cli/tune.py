"""`mmclip tune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Config, Data, Device, Json, Output, Seed, Vectors, Where

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
    classify: Annotated[
        str | None,
        Option(help="A classifier instead: of these views, by commas, of the newest run."),
    ] = None,
    method: Annotated[str, Option(help="Of --classify: clip or scratch.")] = "clip",
    fraction: Annotated[
        float, Option(min=0, max=1, help="Of --classify: part of the training stars.")
    ] = 1.0,
    column: Annotated[str, Option(help="Of --classify: column of the class.")] = "class",
    vectors: Vectors = None,
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

    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"'{name}' cannot name a study", "use letters, digits, '-' and '_'")
    if classify:
        table, best = _classifier(
            workspace, vectors, data, (classify, method, fraction, column),
            {"epochs": epochs, "batch": batch, "device": device, "seed": seed},
            (config, name, trials),
        )  # fmt: skip
        answer = show(table, as_json, output)
        say(f"next: mmclip classify --method {method} --config {best}")
        return answer
    flags = {
        "modalities": modalities, "encoders": encoders, "epochs": epochs, "batch": batch,
        "device": device, "seed": seed,
    }  # fmt: skip
    resolved = resolve_settings(preset, config, settings or [], flags)
    space = open_workspace(workspace)
    folder = space.root / "studies" / name
    opened = open_dataset(space.get("data", data), resolved.modalities)
    modelled({n: v.provenance for n, v in opened.views.items()})
    answer = show(tune(opened, resolved, folder, trials, _say), as_json, output)
    say(f"next: mmclip train --config {folder / 'best.toml'}")
    return answer


def _classifier(
    workspace: Path | None, vectors: str | None, data: str | None,
    asked: tuple[str, str, float, str], flags: "dict[str, int | str | None]",
    study: tuple[Path | None, str, int],
) -> "tuple[Result, Path]":  # fmt: skip
    """The search of a classifier's settings, and where the best ones are written."""
    from mmclip.artifacts import paths
    from mmclip.cli import inputs
    from mmclip.config import resolve
    from mmclip.tasks.classify import problem
    from mmclip.tasks.classify.finetune import FinetuneConfig
    from mmclip.tasks.tune import tune_classifier

    views, method, fraction, column = asked
    config, name, trials = study
    settings = resolve(
        FinetuneConfig, "classify", config, {k: v for k, v in flags.items() if v is not None}
    )
    space, store, dataset, run = inputs.with_run(workspace, vectors, data)
    chosen = tuple(store.modality(v) for v in inputs.names(views))
    folder = space.root / "studies" / name
    found = tune_classifier(
        problem(dataset, run, store, column, chosen), run, chosen, method, fraction, settings,
        folder, trials, _say,
    )  # fmt: skip
    return found, folder / paths.BEST


def _say(trial: "Trial") -> None:
    from mmclip.cli.output import say

    recall = "" if trial.recall is None else f"  recall@1 {trial.recall:.3f}"
    say(f"  trial {trial.number:3}  validation loss {trial.loss:.4f}{recall}")
