"""Which artefacts a question is about: vectors, the data set behind them, and the run."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact
    from mmclip.artifacts.workspace import Workspace
    from mmclip.clip.run import Run
    from mmclip.datasets.build import Dataset
    from mmclip.results import Result
    from mmclip.tasks.neighbours import Search
    from mmclip.vectors.store import Store


def vectors_and_data(
    workspace: Path | None, vectors: str | None, data: str | None
) -> "tuple[Workspace, Store, Dataset]":
    """Workspace, vectors (the newest if none is named), and the data set they were made from."""
    from mmclip.datasets.build import open_dataset

    space, store, stars = _named(workspace, vectors, data)
    return space, store, open_dataset(stars, tuple(store.modalities))


def _named(
    workspace: Path | None, vectors: str | None, data: str | None
) -> "tuple[Workspace, Store, Artifact]":
    """Workspace, vectors, and the artefact of the data set, not opened yet."""
    from mmclip.cli.output import open_workspace, say
    from mmclip.vectors.store import Store

    space = open_workspace(workspace)
    store = Store(space.get("vectors", vectors))
    stars = space.get("data", data) if data else space.parent(store.artifact, "data")
    say(f"asked: vectors {store.artifact.path.name} of data {stars.path.name}")
    return space, store, stars


def known(
    space: "Workspace", found: "Result", data: "Dataset", shown: str | None
) -> "Result":  # fmt: skip
    """Answers with what is known of each star: the defaults, or the columns of --show."""
    from mmclip.datasets.objects import raw_views, with_magnitude
    from mmclip.tasks.search import beside

    if shown == "none" or not len(found):
        return found
    objects = with_magnitude(data.objects, raw_views(space, data.artifact))
    return beside(found, objects, names(shown) or None)


def with_run(
    workspace: Path | None, vectors: str | None, data: str | None
) -> "tuple[Workspace, Store, Dataset, Run]":
    """The same, and the run that made the vectors."""
    from mmclip.clip.run import open_run

    space, store, dataset = vectors_and_data(workspace, vectors, data)
    return space, store, dataset, open_run(space.parent(store.artifact, "run"))


def with_run_if_any(
    workspace: Path | None, vectors: str | None, data: str | None, alone: bool
) -> "tuple[Workspace, Store | None, Dataset, Run | None]":
    """The same; a data set that has no vectors alone, if that is enough."""
    from mmclip.cli.output import open_workspace, say
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks.predict.run import store_of

    space = open_workspace(workspace)
    held = space.all("vectors")
    if (
        not alone
        or vectors
        or (held and (not data or store_of(space, space.get("data", data), None)))
    ):
        return with_run(workspace, vectors, data)
    stars = space.get("data", data)
    say(f"asked: data {stars.path.name}, without vectors")
    return space, None, open_dataset(stars), None


def view_of(data: "Dataset") -> Callable[[str], str]:
    """Name of a view as it was typed -> its name in the data set, or an error that lists them."""
    from mmclip.errors import NotFound, nearest
    from mmclip.modalities import meant

    held = list(data.views)

    def named(name: str) -> str:
        if meant(name, held) not in held:
            raise NotFound(
                f"{data.artifact.path} has no view '{name}'; {nearest(name, held)}",
                f"it holds: {', '.join(held)}",
            )
        return meant(name, held)

    return named


def vectors_and_objects(
    workspace: Path | None, vectors: str | None, data: str | None
) -> "tuple[Workspace, Store, Dataset]":
    """As `vectors_and_data`, of the data set the table of objects alone."""
    from mmclip import artifacts
    from mmclip.datasets.build import Dataset, read_objects

    space, store, stars = _named(workspace, vectors, data)
    objects = read_objects(stars)
    return space, store, Dataset(artifacts.check_unreplaced(stars), objects)


def search_by(space: "Workspace", index: str | None) -> "Search":
    """Exact search, or search by a sharded index, of which the recall is said."""
    from mmclip.cli.output import cell, say
    from mmclip.tasks.neighbours import Search

    made = Search(space.get("index", index) if index else None, say)
    for view in made.index.manifest.notes["indexes"] if made.index else ():
        about = made.about(view)
        say(
            f"{view}: neighbours by index {about['index']}, recall@10 = "
            f"{cell(about['index recall@10'])}"
        )
    return made


def names(text: str | None) -> tuple[str, ...]:
    """`a, b` as (`a`, `b`)."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def numbers(text: str, option: str) -> tuple[float, ...]:
    """`1,0.5` as numbers.

    Raises:
        UsageError: If a part is none.
    """
    from mmclip.errors import UsageError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} '{text}' is not numbers by commas", f"{option} 1,0.1") from None


def seeds(text: str) -> tuple[int, ...]:
    """`42,66,0` as seeds; one that is named twice counts once.

    Raises:
        UsageError: If a part is no whole number from 0 to 2^32 - 1.
    """
    from mmclip.errors import UsageError

    given = [part.strip() for part in text.split(",")]
    for part in given:
        if not (part.isascii() and part.isdigit() and int(part[:11]) < 2**32):
            raise UsageError(
                f"--seeds: '{part[:40]}' is no whole number from 0 to {2**32 - 1}", "--seeds 42,66"
            )
    return tuple(dict.fromkeys(int(part) for part in given))


def fractions(text: str) -> tuple[float, ...]:
    """`1,0.5` as fractions of the training stars.

    Raises:
        UsageError: If one is not above 0 and at most 1.
    """
    from mmclip.errors import UsageError

    found = numbers(text, "--fraction")
    if not all(0 < f <= 1 for f in found):
        raise UsageError(f"--fraction {text} is not between 0 and 1", "--fraction 1,0.1")
    return found
