"""`mmclip evaluate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from mmclip.cli.options import Config, Data, Device, Json, Vectors, Where

if TYPE_CHECKING:
    from mmclip.results import Result


def command(
    preset: Annotated[
        str, Option(help="schwarz2024, astroclip, vrakkis (astroclip-cambridge) or astrom3.")
    ] = "schwarz2024",
    benchmark: Annotated[
        str | None,
        Option(
            help="stars, or mmu-provabgs, mmu-astroclip, mmu-galaxy10, mmu-plasticc or "
            "mmu-time-series, for --preset."
        ),
    ] = None,
    compare: Annotated[
        str | None, Option(help="Reports of --benchmark stars beside each other: a.json,b.json.")
    ] = None,
    target: Annotated[
        str | None,
        Option(help="stars: labels, by commas. [default: teff, logg, fe_h, alpha_m, class]"),
    ] = None,
    column: Annotated[str, Option(help="Column that holds the class (astrom3).")] = "class",
    fraction: Annotated[str, Option(help="Of the training stars, by commas.")] = "1,0.5,0.25,0.1",
    seeds: Annotated[str, Option(help="By commas.")] = "42,66,0,12,123",
    epochs: Annotated[int | None, Option(min=1, help="Of the fine-tuning.")] = None,
    fresh: Annotated[
        bool, Option("--fresh", help="Train all anew, not only what is not there yet.")
    ] = False,
    config: Config = None,
    device: Device = None,
    vectors: Vectors = None,
    data: Data = None,
    as_json: Json = False,
    output: Annotated[
        Path | None, Option("-o", "--output", help="Also .md .html .json .csv .parquet .fits")
    ] = None,
    workspace: Where = None,
) -> "Result":
    """Measure every figure of a paper or benchmark and set it beside the published one."""
    from mmclip.cli import inputs
    from mmclip.cli import output as show
    from mmclip.config import resolve
    from mmclip.tasks.classify import line
    from mmclip.tasks.classify.finetune import FinetuneConfig
    from mmclip.tasks.evaluate import evaluate, known, published

    if compare is not None:
        return _beside(inputs.names(compare), as_json, output)
    if benchmark == "stars":
        labels = inputs.names(target)
        seed = inputs.seeds(seeds)[0]
        return _stars(workspace, vectors, data, labels, seed, as_json, output)
    preset = known(benchmark) if benchmark else preset
    published(preset)
    given = {"epochs": epochs, "device": device}
    flags = {name: value for name, value in given.items() if value is not None}

    def choose(paper: Mapping[str, Any]) -> FinetuneConfig:
        return resolve(FinetuneConfig, "classify", config, flags, dict(paper))

    choose({})  # a mistake in the file is told before the work
    _, store, dataset, run = inputs.with_run(workspace, vectors, data)
    about, unlike, rows = evaluate(
        preset, store, dataset, run, column, inputs.fractions(fraction),
        inputs.seeds(seeds), choose,
        lambda row: show.say(line(row)), fresh, show.say,
    )  # fmt: skip
    show.modelled(store.artifact.manifest.provenance)
    if unlike:
        show.say(f"not the data of {about.title}: {'; '.join(unlike)}. No figure is compared.")
    if output is not None and output.suffix in (".md", ".html"):
        text = markdown(about, unlike, rows) if output.suffix == ".md" else _page(
            about, unlike, rows, store
        )  # fmt: skip
        show.replace_file(output, lambda p: p.write_text(text, encoding="utf-8"))
        show.say(f"wrote {output}")
        output = None
    short = [{k: v for k, v in row.items() if k != "source"} for row in brief(rows)]
    return show.rows(rows, f"{about.title}: {about.protocol}", as_json, output, short)


def _stars(
    workspace: Path | None, vectors: str | None, data: str | None, labels: tuple[str, ...],
    seed: int, as_json: bool, output: Path | None,
) -> "Result":  # fmt: skip
    """StarBench; a report of it if a .json is named."""
    import json

    from mmclip.cli import inputs
    from mmclip.cli import output as show
    from mmclip.results import from_rows
    from mmclip.tasks import starbench

    _, store, dataset = inputs.vectors_and_data(workspace, vectors, data)
    rows = starbench.measure(dataset, store, labels, seed, tell=show.say)
    if output is not None and output.suffix == ".json":
        text = json.dumps(starbench.report(dataset, store, rows, seed), indent=1)
        show.replace_file(output, lambda p: p.write_text(text + "\n", encoding="utf-8"))
        show.say(f"wrote {output}; beside another: mmclip evaluate --compare {output},OTHER.json")
        output = None
    result = from_rows(rows, "StarBench, test stars", source=store.artifact)
    short = [{k: r[k] for k in SHORT} for r in rows]
    return show.show(result, as_json, output, short)


def _beside(files: tuple[str, ...], as_json: bool, output: Path | None) -> "Result":
    """Reports of StarBench beside each other."""
    from mmclip.cli import output as show
    from mmclip.results import from_rows
    from mmclip.tasks import starbench

    rows, notes = starbench.beside([Path(f) for f in files])
    title = "StarBench: the best reader of the vectors of each, and the best without them"
    return show.show(from_rows(rows, title, notes=notes), as_json, output)


SHORT = ("task", "label", "view", "setting", "on", "method", "metric", "value")
ORDER = ("quantity", "from", "ours", "ours low", "ours high", "ours std", "seeds", "test",
         "baseline", "baseline is", "published", "published std", "difference", "comparison",
         "source")  # fmt: skip


def brief(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table for people: what differs is said once above it, so a row has only the verdict."""
    names = [n for n in ORDER if any(row.get(n) is not None for row in rows)]
    found = []
    for row in rows:
        verdict = row["comparison"]
        if verdict.startswith("refused"):
            verdict = verdict.split(" (")[0] + ", views lacking" * ("views lacking" in verdict)
        found.append({n: row.get(n) for n in names} | {"comparison": verdict})
    return found


def markdown(about: Any, unlike: list[str], rows: list[dict[str, Any]]) -> str:
    """The table as Markdown, with the protocol and what differs above it."""
    from mmclip.cli.output import cell

    rows = brief(rows)
    names = list(rows[0])
    lines = [f"# {about.title}", "", f"Protocol: {about.protocol}.", ""]
    if unlike:
        lines += [f"The data are not the paper's: {'; '.join(unlike)}. Nothing is compared.", ""]
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [cell(row.get(name)).replace("|", "\\|") for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _page(about: Any, unlike: list[str], rows: Any, store: Any) -> str:
    from mmclip import report as pages

    manifest = store.artifact.manifest
    words = (
        f"The data are not the paper's: {'; '.join(unlike)}. Nothing is compared."
        if unlike
        else "The data have the counts and views of the paper's."
    )
    section = pages.Section("Ours beside the published figures", words, table=brief(rows))
    footer = f"mmclip {manifest.mmclip_version}, vectors {manifest.fingerprint[:12]}."
    return pages.page(about.title, about.protocol, [section], footer)
