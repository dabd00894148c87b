"""Answers of classifiers on disk: a study that was killed goes on where it stopped.

A cell is one set of views, fraction, seed and method. Its answer is a small file beside the
vectors (or the data), named by the hash of all that determines it; the same question is never
trained twice. It begins with a signature: an answer that another user left there is not believed.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip import __version__, artifacts
from mmclip.artifacts import Artifact, owner, write_atomic
from mmclip.errors import MmclipError
from mmclip.results import Row

FORMAT = 3  # 2: every step of a fine-tuning has random numbers of its own; 3: signed


@dataclass(frozen=True)
class Guesses:
    """The class that one classifier gives each test object.

    Attributes:
        name: Of the classifier.
        guess: [test objects] class numbers.
        confidence: [test objects] probability of the class chosen; None where it gives none.
    """

    name: str
    guess: NDArray[np.int64]
    confidence: NDArray[np.float64] | None


@dataclass(frozen=True)
class Cell:
    """Answers of a method, and its rows of the importance table."""

    guesses: list[Guesses]
    importance: list[Row]


def folder(parents: Sequence[Artifact], *asked: Any) -> Path:
    """Where the answers to a question about these artefacts lie, cleared of what a kill left.

    That is beside the first of them: the vectors, or the data.
    """
    mark = artifacts.mark([FORMAT, __version__, [a.manifest.fingerprint for a in parents], asked])
    where = parents[0].path.parent / f".answers-{mark}"
    artifacts.sweep(where)
    for left in where.glob("*.work"):
        if left.with_suffix(".npz").exists():  # its cell is whole
            artifacts.discard(left)
    return where


def place(where: Path, **cell: Any) -> Path:
    """The file of a cell; `cell` is all that determines it."""
    return where / f"{artifacts.mark(cell)}.npz"


def work(file: Path) -> Path:
    """Where the checkpoint of a cell's network lies while it is trained."""
    return file.with_suffix(".work")


@contextmanager
def held(folder: Path | None) -> Iterator[Path | None]:
    """A directory of unfinished work, held by this process; None if another one holds it."""
    with ExitStack() as stack:
        if folder is not None:
            try:
                stack.enter_context(artifacts.locked(folder, "fine-tuning"))
            except MmclipError:
                folder = None
        yield folder


def write(file: Path, cell: Cell) -> None:
    """Write a cell, whole or not at all."""
    names = [(s.name, s.confidence is not None) for s in cell.guesses]
    shares = [dict(row) for row in cell.importance]
    held: dict[str, NDArray[Any]] = {
        "about": np.array(json.dumps({"names": names, "importance": shares}))
    }
    for i, made in enumerate(cell.guesses):
        held[f"guess{i}"] = made.guess
        if made.confidence is not None:
            held[f"confidence{i}"] = made.confidence
    body = io.BytesIO()
    np.savez_compressed(body, **held)  # type: ignore[arg-type]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, owner.signature(_said(file, body.getvalue())).encode() + body.getvalue())
    except OSError as error:
        raise artifacts.unwritable(file, error) from error


def read(file: Path) -> Cell | None:
    """A cell that was stored, or None if there is none, it is damaged or another's."""
    try:
        whole = file.read_bytes()
        given, body = whole[:64].decode("ascii"), whole[64:]
        if not owner.signed_by_us(_said(file, body), given):
            return None
        with np.load(io.BytesIO(body), allow_pickle=False) as held:
            about = json.loads(str(held["about"]))
            guesses = [
                Guesses(name, held[f"guess{i}"], held[f"confidence{i}"] if soft else None)
                for i, (name, soft) in enumerate(about["names"])
            ]
            return Cell(guesses, about["importance"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _said(file: Path, body: bytes) -> str:
    return f"{file.parent.name}/{file.name} {artifacts.sha256_bytes(body)}"
