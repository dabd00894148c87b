"""`mmclip adapt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.artifacts import paths
from mmclip.cli.options import Config, Device, Force, Json, Name, Output, Seed, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact
    from mmclip.datasets.build import Dataset
    from mmclip.plots import Figure
    from mmclip.results import Result


def command(
    source: Annotated[
        str,
        Option("--from", help="Run, pre-trained encoder or data set to come from; or an adapter."),
    ],
    data: Annotated[str, Option("--data", help="Data set of the survey to go to.")],
    target: Annotated[
        str | None, Option(help="Label columns, by commas; each gets its own network.")
    ] = None,
    method: Annotated[
        str, Option(help="lora, residual, full, scratch, zero-shot, several by commas, or all.")
    ] = "all",
    sizes: Annotated[
        str | None, Option(help="Labelled target stars. [default: 0,100,200,500,1000,all]")
    ] = None,
    seeds: Annotated[int | None, Option(min=1, help="Runs a size. [default: 5]")] = None,
    view: Annotated[
        str | None, Option(help="Which view, or SOURCE:TARGET. [default: the one they share]")
    ] = None,
    holdout: Annotated[
        float | None,
        Option(min=0.0, max=0.95, help="Judge on this part of the target, not its test split."),
    ] = None,
    match_resolution: Annotated[
        str | None, Option(help="SOURCE,TARGET: R, or FWHM as 2.5A; the sharper one is blurred.")
    ] = None,
    where: Annotated[
        str | None, Option(help="Only these stars, of both: 'teff > 4000 and teff < 8000'.")
    ] = None,
    regime: Annotated[
        list[str] | None, Option(help="Score these stars by themselves too: 'feh < -1'.")
    ] = None,
    heteroscedastic: Annotated[
        bool | None, Option("--heteroscedastic", help="Predict an uncertainty too.")
    ] = None,
    pipeline: Annotated[
        str | None,
        Option(help="LABEL=COLUMN of the target's own labels, a baseline. [default: DESI's SP]"),
    ] = None,
    reference: Annotated[
        str | None, Option(help="Data set whose labels are the cloud of MMD2. [default: judged]")
    ] = None,
    plot: Annotated[
        Path | None, Option(help="Picture, see --figure (.png .pdf); of a stored adapter too.")
    ] = None,
    figure: Annotated[
        str, Option(help="Of --plot: scan, one-to-one, plane or landscape.")
    ] = "scan",
    landscape: Annotated[
        Path | None, Option(help="Picture of the loss around each network (.png .pdf).")
    ] = None,
    device: Device = None,
    seed: Seed = None,
    config: Config = None,
    name: Name = None,
    force: Force = False,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result":
    """Carry a label network from one survey to another, and compare the ways to do it."""
    import dataclasses
    from typing import get_args

    from mmclip.cli.output import modelled, say, show
    from mmclip.cli.output import workspace as open_workspace
    from mmclip.config import choice, resolve
    from mmclip.datasets.build import open_dataset
    from mmclip.transfer import adapter, stored
    from mmclip.transfer.data import AdaptConfig

    choice("--figure", figure, get_args(stored.Figure))
    space = open_workspace(workspace)
    parent = space.find(source, ("run", "data", "adapter", "encoder"), "--from ")
    inside = space.root / data  # data/desi, as well as desi or a path from here
    stars = space.get("data", str(inside) if (inside / paths.MANIFEST).is_file() else data)
    if parent.manifest.kind == "adapter":
        there = open_dataset(stars)
        pictures = _files(figure, plot, landscape)
        if pictures:
            _draw(parent, there, pictures, (target or "", (regime or [""])[0]))
            return show(stored.scores(parent), as_json, output)
        opened = adapter.open_adapter(parent)
        chosen = adapter.preferred(opened) if method == "all" else method
        view_of = open_dataset(stars, (opened.view,))
        return show(adapter.apply(opened, view_of, chosen, device or "auto"), as_json, output)
    flags = {
        "targets": target, "methods": None if method == "all" else method, "sizes": sizes,
        "seeds": seeds, "view": view, "holdout": holdout, "match_resolution": match_resolution,
        "where": where, "pipeline": pipeline, "reference": reference,
        "regimes": tuple(regime) if regime else None, "heteroscedastic": heteroscedastic,
        "device": device, "seed": seed,
    }  # fmt: skip
    settings = resolve(AdaptConfig, "adapt", config, flags)
    run = None
    taught = parent
    if parent.manifest.kind == "run":
        from mmclip.clip.run import open_run

        run, taught = open_run(parent), space.parent(parent, "data")
    elif parent.manifest.kind == "encoder":
        from mmclip.tasks.pretrain import as_run

        run, taught = as_run(parent), space.parent(parent, "data")
        if not settings.view:  # an encoder has one view
            settings = dataclasses.replace(settings, view=next(iter(run.shape.sizes)))
    there = open_dataset(stars)
    place = space.place("adapter", name or f"{parent.path.name}-to-{stars.path.name}")
    known = settings.reference
    made, scores = adapter.make(
        open_dataset(taught), run, there, settings, place, force, lambda line: say(f"  {line}"),
        open_dataset(space.get("data", known), ()) if known else None,
    )  # fmt: skip
    modelled(made.manifest.provenance)
    for what, count in made.manifest.rows.items():
        say(f"  {what}: {count}")
    answer = show(scores, as_json, output, draw=lambda: _picture(made, there, "scan", ("", "")))
    _draw(made, there, _files(figure, plot, landscape), ("", ""))
    say(f"{made.path}: use it: mmclip adapt --from {made.path.name} --data ... -o labels.fits")
    return answer


def _files(figure: str, plot: Path | None, landscape: Path | None) -> "list[tuple[str, Path]]":
    asked = ((figure, plot), ("landscape", landscape))
    return [(which, file) for which, file in asked if file is not None]


def _picture(made: "Artifact", data: "Dataset", which: str, of: tuple[str, str]) -> "Figure":
    """A picture of an adapter; `of` is a label and a cut, either may be empty."""
    from mmclip import plots
    from mmclip.tasks.knn import label
    from mmclip.transfer import stored
    from mmclip.transfer.adapter import landscapes, open_adapter

    if which == "landscape":
        return plots.landscape_figure(landscapes(open_adapter(made), data, *of))
    if which == "scan":
        rows = stored.scores(made).rows
        # R2 of the mean is 0, and would squeeze all the others.
        shown = [r for r in rows if r["regime"] == (of[1] or "all") and r["method"] != "mean"]
        return plots.scans_figure([r for r in shown if of[0] in ("", r["target"])])
    held = stored.judged(made, data, of[1])
    if which == "plane":
        seed = int(made.manifest.config["seed"])
        names, reference, clouds = stored.plane(made, held, seed)
        shown_names = (label(data, names[0]), label(data, names[1]))
        return plots.plane_figure(reference, clouds, shown_names, of[1])
    panels = {
        name: {m: (truth, predicted) for m, (_, truth, predicted) in methods.items()}
        for name, methods in held.items()
        if of[0] in ("", name)
    }
    return plots.one_to_one_figure(panels, {n: label(data, n) for n in panels}, of[1])


def _draw(
    made: "Artifact", data: "Dataset", pictures: "list[tuple[str, Path]]", of: tuple[str, str]
) -> None:
    from mmclip.cli.output import say
    from mmclip.plots import save

    for which, file in pictures:
        save(_picture(made, data, which, of), file)
        say(f"wrote {file}")
