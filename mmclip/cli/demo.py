"""`mmclip demo`: every stage on bundled real stars, each by its own subcommand."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.artifacts import paths
from mmclip.cli.options import Where

if TYPE_CHECKING:
    from mmclip.artifacts.workspace import Workspace


EPOCHS = 40  # 3,000 stars are retrieved worse after 100: docs/experiments.md

# CPU seconds of the parts of `mmclip demo` with 3,000 stars on one core: the ratio of the second to
# the first gives the budget, from the time that the first took here.
FIRST, SECOND = 15.0, 150.0


def command(
    stars: Annotated[int, Option(min=200, help="How many stars.")] = 3000,
    everything: Annotated[bool, Option("--all", help="All 39,851 stars.")] = False,
    quick: Annotated[
        bool, Option("--quick", help="Stop after the answers of the bundled model.")
    ] = False,
    modelled_rvs: Annotated[
        bool, Option("--modelled-rvs", help="Add the MODELLED RVS view (extra demo-rvs).")
    ] = False,
    epochs: Annotated[int, Option(min=1, help="Training epochs.")] = EPOCHS,
    workspace: Where = None,
) -> None:
    """Ask the bundled model about real stars, then train on them and write a page with pictures."""
    from mmclip.artifacts import bundled
    from mmclip.cli.output import open_workspace, say
    from mmclip.cli.progress import span
    from mmclip.surveys import demo

    demo.locate()
    space = open_workspace(workspace)
    begun = time.monotonic()
    name = f"demo-{'all' if everything else stars}" + ("-rvs" if modelled_rvs else "")
    root = ["--workspace", str(space.root)]
    sample = [] if everything else ["--sample", str(stars)]
    rvs = ["--modelled-rvs"] if modelled_rvs else []
    passes = ["--epochs", str(epochs)]
    # The decoder below is trained longer than the quick ones that come with a run.
    quicker, longer = ["--set", "generator_epochs=10"], ["--epochs", "25"] if everything else []
    run_name = name
    if epochs != EPOCHS:
        run_name, longer = f"{name}-e{epochs}", passes
    decoder = f"{run_name}-metadata-xp"
    ready = bundled.vectors_name(name)
    stages(space, root, [
        ("raw", name, ["fetch", "--survey", "demo", *sample, *rvs, "--name", name]),
        ("data", name, ["preprocess", "--raw", name, "--name", name]),
        ("vectors", ready, ["embed", "--run", "bundled", "--data", name, "--name", ready]),
    ])  # fmt: skip
    first_answers(space, name, root)
    took = time.monotonic() - begun
    say(f"\nanswers of the bundled model after {took:.0f} s")
    if quick:
        say("next: mmclip predict --head bundled --file MINE.fits -o labels.fits, or mmclip demo")
        return
    say(f"now a model of its own, from these stars alone: about {span(SECOND / FIRST * took)} at "
        "this pace; Ctrl-C stops, mmclip demo goes on")  # fmt: skip
    stages(space, root, [
        ("run", run_name, ["train", "--data", name, "--name", run_name, *passes, *quicker]),
        ("vectors", run_name, ["embed", "--run", run_name, "--name", run_name]),
        ("decoder", decoder, ["train-decoder", "--from", "metadata", "--to", "xp", "--vectors",
                              run_name, "--name", decoder, *longer]),
    ])  # fmt: skip
    page = report(space, run_name, root, begun)
    say(f"\nthe page with pictures: {page}   ({time.monotonic() - begun:.0f} s in all)")


def stages(
    space: "Workspace", root: list[str], every: list[tuple[str, str, list[str]]]
) -> None:  # fmt: skip
    """Run the commands of which the artefact (kind, name) is not there yet."""
    from mmclip.cli.output import say

    for kind, made, arguments in every:
        if (space.place(kind, made) / paths.MANIFEST).is_file():
            say(f"$ mmclip {' '.join(arguments)}   # done before")
            continue
        step(arguments, root)


def first_answers(space: "Workspace", name: str, root: list[str]) -> None:
    """A star's neighbours, the labels of all stars, and how good both are on test stars."""
    from mmclip.artifacts import bundled
    from mmclip.cli.output import say, table, write
    from mmclip.datasets.build import read_objects
    from mmclip.report import demo
    from mmclip.tasks.predict import catalogue

    store = demo.bundled_store(space, name)
    query = int(store.source_id[store.of("test")][0])
    step(["search", "--query-id", str(query), "--from", "metadata", "--to", "xp", "-k", "5",
          "--vectors", bundled.vectors_name(name)], root)  # fmt: skip
    labels = space.root / f"labels-{name}.fits"
    say(f"\n$ mmclip predict --head bundled --data {name} -o {labels}")
    found, fitted = demo.labels_of(space, name)
    write(found, labels)
    table(catalogue.short(found.head(3).table, fitted), f"{found.question} (3 of them)")
    objects = read_objects(space.get("data", name))
    table(
        demo.first_rows(store, objects, found), "on test stars, which the bundled model never saw"
    )
    table(demo.card_rows(), "its card: all 4,144 test stars, as measured when it was made")


def step(arguments: list[str], root: list[str]) -> None:
    """Print a subcommand as it would be typed, then run it."""
    from mmclip.cli import application
    from mmclip.cli.output import say

    say(f"\n$ mmclip {' '.join(arguments)}")
    application()([*arguments, *root], standalone_mode=False)


def report(space: "Workspace", name: str, root: list[str], begun: float) -> Path:
    """Ask the questions, show the answers, and write them as one page."""
    from mmclip import artifacts
    from mmclip.artifacts import bundled
    from mmclip.cli.output import say, table
    from mmclip.clip.run import open_run
    from mmclip.datasets.build import open_dataset
    from mmclip.report import demo, write
    from mmclip.tasks.search import recall
    from mmclip.vectors.store import Store

    store = Store(space.get("vectors", name))
    dataset = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities))
    run = open_run(space.parent(store.artifact, "run"))
    named = ["--vectors", name]
    found = recall(store)
    table(demo.marked(found), found.question)
    step(["knn", "--target", ",".join(demo.TARGETS), "-k", "13", *named], root)
    data = dataset.artifact
    say(f"\n$ mmclip predict --compare --method {','.join(demo.OPPONENTS)} --bootstrap 0 "
        f"--data {data.path.name}")  # fmt: skip
    beside = demo.opponents(space, data)
    table(beside.rows, beside.question)
    step(["outliers", "--top", str(demo.LISTED), *named], root)
    step(["generate", "--from", "metadata", "--to", "xp", *named], root)
    say(f"\n$ mmclip map --colour teff {' '.join(named)}")
    html = demo.page(space, store, dataset, run, beside, time.monotonic() - begun)
    query = int(store.source_id[store.of("test")][0])
    step(["search", "--query-id", str(query), "-k", "5", *named], root)
    place = space.place("report", name)
    first = demo.bundled_store(space, dataset.artifact.path.name).artifact
    decoder = space.get("decoder", f"{name}-metadata-xp")
    shown = (store.artifact, first, space.get("head", bundled.NAME), decoder)
    with artifacts.building(place, replace=True) as folder:
        write(folder / paths.REPORT, html)
        artifacts.seal(
            folder, "report", config={}, parents=[a.reference for a in shown],
            rows=dataset.artifact.manifest.rows, surveys=dataset.artifact.manifest.surveys,
            provenance=store.artifact.manifest.provenance, seed=None,
        )  # fmt: skip
    return place / paths.REPORT
