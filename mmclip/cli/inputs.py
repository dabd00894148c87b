"""What most questions begin with: the vectors, the data set behind them, and the run."""

from pathlib import Path
from typing import Any


def vectors_and_data(workspace: Path | None, vectors: str | None, data: str | None) -> Any:
    """Workspace, vectors (the newest if none is named), and the data set they were made from."""
    from mmclip.datasets.build import open_dataset

    space, store, stars = _named(workspace, vectors, data)
    return space, store, open_dataset(stars, tuple(store.modalities))


def _named(workspace: Path | None, vectors: str | None, data: str | None) -> Any:
    """Workspace, vectors, and the artefact of the data set, not opened yet."""
    from mmclip.cli import output
    from mmclip.vectors.store import Store

    space = output.workspace(workspace)
    store = Store(space.get("vectors", vectors))
    return space, store, space.get("data", data) if data else space.parent(store.artifact, "data")


def with_run(workspace: Path | None, vectors: str | None, data: str | None) -> Any:
    """The same, and the run that made the vectors."""
    from mmclip.clip.run import open_run

    space, store, dataset = vectors_and_data(workspace, vectors, data)
    return space, store, dataset, open_run(space.parent(store.artifact, "run"))


def vectors_and_objects(workspace: Path | None, vectors: str | None, data: str | None) -> Any:
    """As `vectors_and_data`, of the data set the table of objects alone."""
    from mmclip import artifacts
    from mmclip.datasets.build import Dataset, read_objects

    space, store, stars = _named(workspace, vectors, data)
    objects = read_objects(stars)
    return space, store, Dataset(artifacts.check_unreplaced(stars), objects)


def how(space: Any, index: str | None) -> Any:
    """How neighbours are looked for: exactly, or by an index in parts, of which it says what."""
    from mmclip.cli import output
    from mmclip.tasks.neighbours import How

    made = How(space.get("index", index) if index else None, output.say)
    for view in made.index.manifest.notes["indexes"] if made.index else ():
        told = made.about(view)
        output.say(
            f"{view}: neighbours by index {told['index']}, recall@10 = "
            f"{output.cell(told['index recall@10'])}"
        )
    return made
