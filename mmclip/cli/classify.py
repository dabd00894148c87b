"""`mmclip classify`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from mmclip.cli.options import Config, Data, Device, Json, Output, Vectors, Where


def command(
    column: Annotated[str, Option(help="Column that holds the class.")] = "class",
    modalities: Annotated[
        str | None, Option(help="Views, by commas; several sets by semicolons. [default: all]")
    ] = None,
    method: Annotated[
        str, Option(help="By commas: clip, scratch (both fine-tuned), head, zero-shot, forest.")
    ] = "zero-shot,head,forest",
    fraction: Annotated[
        str, Option(help="Of the training stars, by commas; AstroM3 caps classes: 1,0.5,0.25,0.1.")
    ] = "1",
    seeds: Annotated[str, Option(help="By commas. [AstroM3: 42,66,0,12,123]")] = "42,66,0,12,123",
    cap_test: Annotated[
        bool, Option("--cap-test", help="Cap validation and test stars too, as AstroM3 does.")
    ] = False,
    epochs: Annotated[int | None, Option(min=1, help="Of the fine-tuning.")] = None,
    importance: Annotated[
        Path | None, Option(help="Write the table of every set of views at test to this file.")
    ] = None,
    every: Annotated[Path | None, Option(help="Write the row of every seed to this file.")] = None,
    plot: Annotated[
        Path | None, Option(help="Confusion matrices and reliability, a picture a method.")
    ] = None,
    fresh: Annotated[
        bool, Option("--fresh", help="Train all anew, not only what is not there yet.")
    ] = False,
    config: Config = None,
    device: Device = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> None:
    """Classify stars from any views, pre-trained or not, beside baselines; seeds and intervals."""
    from mmclip.cli import inputs
    from mmclip.cli import output as show
    from mmclip.config import resolve
    from mmclip.tasks import classify
    from mmclip.tasks.classify.finetune import FinetuneConfig

    given = {"epochs": epochs, "device": device}
    flags = {name: value for name, value in given.items() if value is not None}
    settings = resolve(FinetuneConfig, "classify", config, flags)
    _, store, dataset, run = inputs.with_run(workspace, vectors, data)
    texts = (modalities or ",".join(store.modalities)).split(";")
    sets = [tuple(store.modality(v.strip()) for v in text.split(",")) for text in texts]
    whole = tuple(dict.fromkeys(v for views in sets for v in views))
    asked = classify.problem(dataset, run, store, column, whole)
    show.modelled(store.artifact.manifest.provenance)
    show.say(f"{int((asked.labels >= 0).sum())} stars of {len(asked.classes)} classes")
    rows: list[dict[str, Any]] = []
    for views in sets:
        made = classify.classify(
            asked, run, views, tuple(m.strip() for m in method.split(",")),
            numbers(fraction, "--fraction"), tuple(int(s) for s in numbers(seeds, "--seeds")),
            settings, cap_test, progress_line, fresh,
        )  # fmt: skip
        rows += made.rows
        if made.taken:
            show.say(f"{len(made.taken)} of {len(made.rows)} rows were kept from an earlier run "
                     "(--fresh trains them anew)")  # fmt: skip
        if made.importance:
            table = classify.importance(made.importance)
            if not as_json:
                show.table(table, "which views matter: the others left out at test")
            if importance:
                show.write(table, importance)
        if plot:
            _draw(asked.classes, made, "+".join(views), plot)
    if every:
        show.write(rows, every)
    tests = classify.significance(rows)
    if tests and not as_json:
        show.table(tests, "differences of micro accuracy, paired over seeds")
    show.rows(classify.over_seeds(rows), "test stars; mean and deviation over seeds", as_json,
              output)  # fmt: skip


def progress_line(row: dict[str, Any]) -> None:
    from mmclip.cli import output as show

    show.say(
        f"{row['views']} {row['method']} {row['fraction']:g} seed {row['seed']}: "
        f"micro {row['micro']:.4f}, macro {row['macro']:.4f}" + (" (kept)" if row["kept"] else "")
    )


def numbers(text: str, option: str) -> tuple[float, ...]:
    from mmclip.errors import UsageError

    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} '{text}' is not numbers by commas", f"{option} 1,0.1") from None
    if option == "--fraction" and not all(0 < f <= 1 for f in found):
        raise UsageError(f"{option} {text} is not between 0 and 1", f"{option} 1,0.1")
    return found


def _draw(classes: list[str], made: Any, views: str, plot: Path) -> None:
    from mmclip import plots
    from mmclip.cli import output as show

    for name, counts in made.confusions.items():
        place = plot.with_stem(f"{plot.stem}-{views}-{name}".replace(" ", "-"))
        title = f"{views}: {_words(name)}, added over seeds"
        plots.save(plots.confusion_figure(counts, classes, title), place)
        show.say(f"wrote {place} (counts over all seeds)")
    if made.reliability:
        place = plot.with_stem(f"{plot.stem}-{views}-reliability")
        shown = {_words(name): found for name, found in made.reliability.items()}
        plots.save(plots.reliability_figure(shown, views), place)
        show.say(f"wrote {place}")


def _words(name: str) -> str:
    """A classifier and fraction for people: "head 0.1" is "head, 10 % of the labels"."""
    method, _, fraction = name.rpartition(" ")
    return f"{method}, {100 * float(fraction):g} % of the labels"
