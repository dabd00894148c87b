"""From a workspace to a catalogue: which stars are learned from, which are asked, the result."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import artifacts, cuts
from mmclip.artifacts import Artifact
from mmclip.artifacts.shards import block
from mmclip.artifacts.workspace import Workspace
from mmclip.config import Seed
from mmclip.datasets.build import open_dataset
from mmclip.errors import UsageError
from mmclip.results import Result, Value, from_table
from mmclip.tasks.circular import circular
from mmclip.tasks.predict import (
    METHODS,
    OPPONENTS,
    Question,
    catalogue,
    fit,
    fitted,
    inputs_of,
    learn_blocks,
)
from mmclip.tasks.predict import compare as compared
from mmclip.tasks.predict import heads as known_heads
from mmclip.tasks.predict.catalogue import Asked
from mmclip.tasks.predict.stars import VECTORS, labels, stars_of
from mmclip.vectors.store import Store

Row = dict[str, Any]
Tell = Callable[[str], None]
LARGE = 200_000  # stars, from which a Parquet file is written block by block
ON = ("view", "vectors", "both")


@dataclass(frozen=True)
class PredictConfig:
    """Settings of `mmclip predict`.

    Attributes:
        target: Columns to predict.
        method: A head, or `auto`.
        on: `view`, `vectors` or `both`.
        views: Which; empty for all.
        where: Which stars are learned from; empty for all.
        seed: Of every random choice.
    """

    target: tuple[str, ...] = ()
    method: str = "auto"
    on: str = "view"
    views: tuple[str, ...] = ()
    where: str = ""
    seed: Seed = 42


@dataclass(frozen=True)
class Fitting:
    """What is about to be learned."""

    question: Question
    settings: PredictConfig
    store: Store | None

    @property
    def circular(self) -> list[str]:
        """Targets that would be predicted from themselves, each with its view."""
        asked = self.question
        return [f"{one.name} from {view}" for one in asked.targets for view in asked.views
                if circular(asked.data, view, one.name)]  # fmt: skip


def store_of(space: Workspace, data: Artifact, name: str | None) -> Store | None:
    """The vectors named, or the newest that were made from a data set; None if there are none."""
    if name:
        return Store(space.get("vectors", name))
    for found in reversed(space.all("vectors")):
        if any(p["fingerprint"] == data.manifest.fingerprint for p in found.manifest.parents):
            return Store(found)
    return None


def fitting(
    space: Workspace, data: Artifact, settings: PredictConfig, vectors: str | None = None
) -> Fitting:
    """Open the stars that are learned from, and their labels.

    Raises:
        UsageError: On a setting that cannot be.
        NotFound: If a column, a view or a head is not there.
    """
    if settings.on not in ON:
        raise UsageError(f"--on '{settings.on}' is not known", f"--on {', '.join(ON)}")
    if not settings.target:
        raise UsageError("there is nothing to predict", "--target teff,logg")
    for method in settings.method.split(","):
        if method != "auto":
            known_heads.head(method)
    held = list(data.manifest.provenance)
    views = settings.views or tuple(sorted(held))
    opened = open_dataset(data, views)
    store = store_of(space, data, vectors)
    if settings.on != "view" and store is None:
        raise UsageError(f"{data.path} has no vectors", "mmclip embed, or --on view")
    train = opened.of("train")
    only = np.ones(len(train), bool)
    if settings.where:
        only = cuts.where(opened.objects, settings.where)
    found = labels(opened, settings.target, train & only)
    stars = stars_of(opened, store)
    if settings.on == "view" and store is not None:  # presence is then that of the view alone
        stars = stars_of(opened)
    question = Question(opened, stars, tuple(found), views, settings.on, only, settings.seed)
    return Fitting(question, settings, store)


def warning(found: Fitting) -> str:
    """A sentence if a target is predicted from itself, else nothing."""
    if not found.circular:
        return ""
    return (f"warning: circular: {', '.join(found.circular)} is predicted from itself; "
            "the scores say nothing about other stars")  # fmt: skip


def compare(found: Fitting, resamples: int, tell: Tell) -> list[Row]:
    """Every head on the views, and on the vectors where there are any; `circular` said."""
    asked, rows = found.question, list[Row]()
    if warning(found):
        tell(warning(found))
    auto = found.settings.method == "auto"
    methods = (*METHODS, *OPPONENTS) if auto else tuple(found.settings.method.split(","))
    tried = [(asked, methods)]
    if found.settings.on == "view" and found.store is not None:
        whole = stars_of(asked.data, found.store)
        if all(VECTORS + v in whole.read for v in asked.views):
            tried.append((Question(asked.data, whole, asked.labels, asked.views, "vectors",
                                   asked.only, asked.seed),
                          ("knn", "ridge", "kernel-ridge")))  # fmt: skip
    for question, those in tried:
        names = inputs_of(question.views, question.on, question.stars.read)
        blocks = learn_blocks(question.data, question.stars, names)
        rows += compared(question, those, blocks, resamples, tell)[0]
    rows.sort(key=lambda r: [t.name for t in asked.targets].index(r["target"]))
    told = {t.name: any(circular(asked.data, v, t.name) for v in asked.views)
            for t in asked.targets}  # fmt: skip
    return [row | {"circular": told[row["target"]]} for row in rows]


def make(
    space: Workspace, found: Fitting, name: str | None, force: bool, resamples: int, tell: Tell
) -> tuple[Artifact, list[Row]]:
    """The fitted head as an artefact; one that is there, made of the same, is taken as it is.

    Returns:
        It, and the rows that compare the heads that were tried (none if it was there).
    """
    asked = found.question
    data = asked.data.artifact
    called = name or f"{data.path.name}-{'-'.join(t.name for t in asked.targets)}"
    place = space.place("head", called)
    settings = {n: list(v) if isinstance(v, tuple) else v
                for n, v in asdict(found.settings).items()}  # fmt: skip
    others = [found.store.artifact.reference] if found.store and asked.on != "view" else []
    if (place / artifacts.MANIFEST).is_file() and not force:
        held = artifacts.read(place)
        if held.manifest.config == settings and held.manifest.parents == [data.reference, *others]:
            tell(f"{place} is there already (--force fits it again)")
            return held, []
    artifacts.check_free(place, force)
    if warning(found):
        tell(warning(found))
    made, rows = fit(asked, found.settings.method, tell, resamples)
    counts = {f"{' + '.join(p.views)}": p.trained for p in made.parts}
    with artifacts.building(place, replace=force) as folder:
        artifact = fitted.write(made, folder, asked.data, settings, others, counts, asked.seed)
    tell(f"wrote {place}")
    return Artifact(place, artifact.manifest), rows


def applied(
    space: Workspace, data: Artifact, settings: PredictConfig, vectors: str | None, tell: Tell
) -> Artifact:
    """The head of a protocol (`knn --apply`, `classify --apply`), named after its settings."""
    text = json.dumps(asdict(settings), sort_keys=True)
    name = f"{data.path.name}-{'-'.join(settings.target)}-{settings.method}"
    name += f"-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return make(space, fitting(space, data, settings, vectors), name, False, 0, tell)[0]


def asked(
    space: Workspace, head: Artifact, data: str | None, files: Sequence[Path],
    vectors: str | None, folder: Path, reader: str | None = None, columns: str | None = None,
) -> Asked:  # fmt: skip
    """The stars of a data set, or of files, with the head that is to predict them.

    Args:
        space: The workspace.
        head: A head artefact.
        data: Name of a data set; None for the one that the head was learned from.
        files: New stars; they go before `data`.
        vectors: Name of the vectors, if the head reads them; None for the newest of the data set.
        folder: Where files are imported for the while.
        reader, columns: Of the files; see `mmclip import`.
    """
    opened = fitted.read(head)
    views = fitted.views_of(head)
    if files:
        if opened.on != "view":
            raise UsageError(
                f"{head.path} reads vectors, which stars of a file do not have yet",
                "mmclip import, preprocess, embed --add-to, then predict --data NAME",
            )
        new = catalogue.from_files(files, views, folder, reader or "", columns)
        made = stars_of(new)
        split = np.full(len(made), "new")
        return catalogue.ask(opened, type(made)(made.source_id, split, made.present, made.read))
    stars = space.get("data", data) if data else space.parent(head, "data")
    held = tuple(v for v in views if v in stars.manifest.provenance)
    if not held:
        raise UsageError(
            f"{stars.path} has none of the views of the head: {', '.join(views)}",
            f"it holds: {', '.join(stars.manifest.provenance)}",
        )
    store = None if opened.on == "view" else store_of(space, stars, vectors)
    if opened.on != "view" and store is None:
        raise UsageError(f"{stars.path} has no vectors, which {head.path} reads", "mmclip embed")
    return catalogue.ask(opened, stars_of(open_dataset(stars, held), store))


def rows_of_shard(of: Asked, shard: int, shards: int) -> NDArray[np.int64]:
    """The stars of one shard."""
    part = block(shard, shards, len(of.stars))
    return np.arange(part.start, part.stop)


def result(of: Asked, head: Artifact) -> Result:
    """The whole catalogue."""
    made = pa.concat_tables(catalogue.blocks(of))
    names = ", ".join(t.name for t in of.fitted.targets)
    how: dict[str, Value] = {"method": of.fitted.method, "on": of.fitted.on, "head": head.path.name,
           **{f"validation {m}": v for m, v in of.fitted.chosen.items()}}  # fmt: skip
    question = f"{names} of {len(of.stars)} stars, by {of.fitted.method}"
    return from_table(made, question, catalogue.described(of.fitted), head, how, of.notes)


__all__ = ["PredictConfig", "asked", "compare", "fitting", "make", "result"]
