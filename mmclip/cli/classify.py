"""`mmclip classify`: classes of stars from any views."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Config, Data, Device, Json, Output, Vectors, Where

if TYPE_CHECKING:
    from mmclip.plots import Figure
    from mmclip.results import Result, Row


def command(
    column: Annotated[str, Option(help="Column that holds the class.")] = "class",
    modalities: Annotated[
        str | None, Option(help="Views, by commas; several sets by semicolons. [default: all]")
    ] = None,
    method: Annotated[
        str | None,
        Option(
            help="By commas: clip, scratch (fine-tuned), head, zero-shot, forest, "
            "extra-trees, boosting, learned, blend. [default: zero-shot,head,forest, of light "
            "curves boosting too]"
        ),
    ] = None,
    fraction: Annotated[
        str, Option(help="Of the training stars, by commas; AstroM3 caps classes: 1,0.5,0.25,0.1.")
    ] = "1",
    seeds: Annotated[str, Option(help="By commas. [AstroM3: 42,66,0,12,123]")] = "42,66,0,12,123",
    cap_test: Annotated[
        bool, Option("--cap-test", help="Cap validation and test stars too, as AstroM3 does.")
    ] = False,
    epochs: Annotated[int | None, Option(min=1, help="Of the fine-tuning.")] = None,
    loss: Annotated[
        str | None, Option(help="Of the fine-tuning: cross-entropy, balanced or focal.")
    ] = None,
    calibrate: Annotated[
        bool, Option("--calibrate", help="Temperature chosen on validation stars.")
    ] = False,
    priors: Annotated[
        str, Option(help="train, or sample: answers under the sample's shares of classes too.")
    ] = "train",
    abstain: Annotated[float, Option(min=0, max=1, help="No class below this probability.")] = 0.0,
    per_class: Annotated[
        Path | None, Option(help="Write recall, precision and F1 of each class to this file.")
    ] = None,
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
    apply: Annotated[
        bool, Option("--apply", help="Classify every star, labelled or not: the table of predict.")
    ] = False,
    config: Config = None,
    device: Device = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result | None":
    """Classify stars from any views, pre-trained or not, beside baselines; seeds and intervals."""
    from mmclip.cli import inputs
    from mmclip.cli.output import modelled, open_workspace, say, show, table, write
    from mmclip.config import resolve
    from mmclip.plots import classifier_figures, save
    from mmclip.tasks import classify
    from mmclip.tasks.classify.finetune import FinetuneConfig

    if apply:
        from mmclip.cli.predict import write_catalogue
        from mmclip.errors import UsageError
        from mmclip.tasks.predict import run as predict

        protocol = {"--method": method, "--epochs": epochs, "--loss": loss, "--every": every,
                    "--per-class": per_class, "--importance": importance, "--plot": plot,
                    "--calibrate": calibrate, "--cap-test": cap_test}  # fmt: skip
        for option in [name for name, value in protocol.items() if value]:
            raise UsageError(
                f"{option} has no effect beside --apply",
                f"leave it out, or choose a head: mmclip predict --target {column} --method NAME",
            )
        space = open_workspace(workspace)
        learned = space.get("data", data)
        wanted = predict.PredictConfig((column,), views=inputs.names(modalities))
        head = predict.applied(space, learned, wanted, None, say)
        return write_catalogue(
            space, head, learned.path.name, [], None, as_json, output, abstain=abstain
        )
    given = {"epochs": epochs, "device": device, "loss": loss}
    flags = {name: value for name, value in given.items() if value is not None}
    settings = resolve(FinetuneConfig, "classify", config, flags)
    fractions = inputs.fractions(fraction)
    drawn = inputs.seeds(seeds)
    chosen = inputs.names(method)
    plain = bool(chosen) and set(chosen) <= set(classify.BY_VALUE)
    _, store, dataset, run = inputs.with_run_if_any(workspace, vectors, data, plain)
    held = store.modalities if store else tuple(dataset.views)
    named = store.modality if store else inputs.view_of(dataset)
    sets = [tuple(named(v) for v in inputs.names(text))
            for text in (modalities or ",".join(held)).split(";")]  # fmt: skip
    whole = tuple(dict.fromkeys(v for views in sets for v in views))
    asked = classify.problem(dataset, run, store, column, whole)
    modelled((store or dataset).artifact.manifest.provenance)
    say(f"{int((asked.labels >= 0).sum())} stars of {len(asked.classes)} classes")
    rows: list[Row] = []
    each: list[Row] = []
    after = classify.Afterwards(calibrate, priors, abstain)
    for views in sets:
        methods = chosen or classify.usual(dataset, views)
        made = classify.classify(
            asked, run, views, methods, fractions, drawn, settings, cap_test,
            lambda row: say(classify.line(row)), fresh, after,
        )  # fmt: skip
        rows += made.rows
        each += classify.per_class(made, asked.classes, "+".join(views)).rows
        if made.taken:
            say(f"{len(made.taken)} of {len(made.rows)} rows were kept from an earlier run "
                "(--fresh trains them anew)")  # fmt: skip
        if made.importance:
            shares = classify.importance(made.importance)
            if not as_json:
                table(shares, shares.question)
            if importance:
                write(shares, importance)
        if plot:
            for name, figure in classifier_figures(asked.classes, made, "+".join(views)).items():
                path = plot.with_stem(f"{plot.stem}-{name}")
                save(figure, path)
                say(f"wrote {path} (over all seeds)")
    if per_class:
        write(each, per_class)
    if every:
        write(rows, every)
    tests = classify.significance(rows)
    if len(tests) and not as_json:
        table(tests, tests.question)

    def draw() -> "Figure":
        return next(iter(classifier_figures(asked.classes, made, "+".join(sets[-1])).values()))

    return show(classify.over_seeds(rows), as_json, output, draw=draw)
