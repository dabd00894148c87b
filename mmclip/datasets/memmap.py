"""Columns of an artefact as memory-mapped arrays, for data larger than memory.

What does not fit in `held()` bytes is spread once from its Parquet file into NumPy files beside the
artefact, `.mapped/NAME/FINGERPRINT-OWNER/FILE.COLUMN.npy`, in the order of the objects; a table of
objects becomes `objects.arrow` there. They are a cache: they may be removed at any time and are
made again when they are missed.

Beside each lies its SHA-256, signed (see `mmclip.artifacts.owner`). A file is summed once by every
process that uses it. What another user wrote is never read.
"""

import contextlib
import functools
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays, artifacts
from mmclip.artifacts import Artifact, owner, paths
from mmclip.datasets import tables
from mmclip.errors import IntegrityError, MmclipError, UsageError
from mmclip.ids import lookup

HELD_MB = 1024  # of one artefact's columns; more are mapped
CHUNK = 32  # row groups of a chunk of a table
BLOCK = 16 * 2**20  # bytes worked on at a time where all rows are walked through


def held() -> int:
    """Bytes of one artefact that are held in memory: `$MMCLIP_HELD_MB` MB, 1024 unless it is set.

    Raises:
        UsageError: If it is no whole number.
    """
    text = os.environ.get("MMCLIP_HELD_MB", str(HELD_MB))
    if not text.strip().isdecimal():
        raise UsageError(f"MMCLIP_HELD_MB = '{text}' is no number of MB", "MMCLIP_HELD_MB=1024")
    return int(text) * 2**20


def blocks(rows: int, width: int) -> Iterator[slice]:
    """All rows of float32 arrays of a width, about `BLOCK` bytes at a time, in row groups."""
    step = max(1, BLOCK // (4 * width) // tables.GROUP) * tables.GROUP
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def empty(
    folder: Path, name: str, shape: tuple[int, ...], apart: bool | None = None
) -> NDArray[np.float32]:
    """An array to be filled: in memory, or `folder/.scratch-NAME.npy` where it does not fit.

    Args:
        folder: Of work in progress; `sweep` removes what is left there.
        shape: Of float32.
        apart: Whether it lies in the file; None: if it is larger than `held()`.
    """
    if not (4 * int(np.prod(shape)) > held() if apart is None else apart):
        return np.empty(shape, np.float32)
    with (folder / paths.scratch(name)).open("w+b") as file:
        return _room(file, shape)


def sweep(folder: Path) -> None:
    """Remove the files that `empty` made."""
    for file in folder.glob(paths.scratch("*")):
        file.unlink()


def columns(
    artifact: Artifact, file: Path, names: Sequence[str], ids: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Fixed-size lists of a Parquet file as arrays [objects, length], mapped read-only.

    Args:
        artifact: The file lies in it.
        file: With a `source_id`; checked against the manifest already.
        names: Columns of the file.
        ids: source_id of row i of the arrays; NaN where the file has no row or a null.

    Raises:
        MmclipError: If the arrays cannot be written beside the artefact.
    """
    folder = place(artifact)
    targets = {n: folder / paths.array(file.stem, n) for n in names}
    lacking = {n: p for n, p in targets.items() if not _ours(artifact, p)}
    if lacking:
        with _made(artifact):
            _write(file, lacking, ids)
            _sign(artifact, lacking.values())
    return {n: _open(p, len(ids)) for n, p in targets.items()}


def table(artifact: Artifact, files: Sequence[Path]) -> pa.Table | None:
    """The rows of Parquet files of one schema as a table that stays on disk, mapped.

    Args:
        artifact: The files lie in it.
        files: Checked against the manifest already; each of the same view.

    Returns:
        None where they fit in `held()` bytes, or cannot be mapped; a caller reads them then.

    Raises:
        MmclipError: If the mapping cannot be written beside the artefact.
    """
    if sum(tables.size(f) for f in files) <= held() or not possible(artifact):
        return None
    if any(tables.schema(f) != tables.schema(files[0]) for f in files):
        return None
    path = place(artifact) / paths.MAPPED_OBJECTS
    if not _ours(artifact, path):
        with _made(artifact):
            _arrow(path, files)
            _sign(artifact, [path])
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", f"remove {path.parent}") from error


def _arrow(path: Path, files: Sequence[Path]) -> None:
    schema = tables.schema(files[0])
    rows = (t for f in files for t in tables.batches(f, None, schema.names, tables.GROUP))
    with artifacts.writing(path) as file, pa.ipc.new_file(file, schema) as to:
        while some := list(itertools.islice(rows, CHUNK)):
            to.write_table(pa.concat_tables(some).cast(schema).combine_chunks())


@contextlib.contextmanager
def _made(artifact: Artifact) -> Iterator[None]:
    """Something is written beside an artefact; what stood there for others that are gone goes."""
    folder = place(artifact)
    _clear(artifact)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        artifacts.sweep(folder)
        yield
    except OSError as error:
        if isinstance(error, MmclipError):
            raise
        raise artifacts.unwritable(folder, error) from error


def kept(
    artifact: Artifact,
    name: str,
    shape: tuple[int, int],
    made: Callable[[slice], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """An array [objects, length] that follows from an artefact, made once, mapped read-only.

    Args:
        artifact: Beside which it lies, with its columns.
        name: Of its file.
        shape: Of the whole.
        made: Gives the rows of a block.

    Raises:
        MmclipError: If it cannot be written.
    """
    path = place(artifact) / paths.mapped(name)
    if not _ours(artifact, path):
        with _made(artifact):
            with artifacts.writing(path) as file:
                room = _room(file, shape)
                for part in blocks(*shape):
                    room[part] = made(part)
            _sign(artifact, [path])
    return _open(path, shape[0])


def possible(artifact: Artifact) -> bool:
    """Whether files may be written beside the artefact; else it is held in memory."""
    folder = artifact.path.resolve().parent
    return os.access(folder, os.W_OK) or place(artifact).is_dir()


def place(artifact: Artifact) -> Path:
    """Where the arrays of an artefact lie that this user wrote."""
    path, mark = artifact.path.resolve(), artifact.manifest.fingerprint
    return path.parent / paths.MAPPED / path.name / f"{mark[:16]}-{owner.owner()}"


def _said(artifact: Artifact, path: Path, total: str) -> str:
    return f"{artifact.manifest.fingerprint} {path.name} {total}"


def _sign(artifact: Artifact, made: Iterable[Path]) -> None:
    """Put beside each file what it must sum to, and that we say so."""
    for path in made:
        total = artifacts.sha256(path)
        text = f"{total} {owner.signature(_said(artifact, path, total))}\n"
        artifacts.write_atomic(path.with_name(paths.signed(path.name)), text.encode())


def _ours(artifact: Artifact, path: Path) -> bool:
    """True for a file that this user wrote and that is as it was then.

    Raises:
        IntegrityError: If it was changed since.
    """
    try:
        about = path.stat()
        total, signature = path.with_name(paths.signed(path.name)).read_text().split()
    except (OSError, ValueError):
        return False
    if not owner.signed_by_us(_said(artifact, path, total), signature):
        return False
    if _sum(path, about.st_ino, about.st_size, about.st_mtime_ns) != total:
        raise IntegrityError(f"{path} is damaged: its SHA-256 differs", f"remove {path.parent}")
    return True


@functools.lru_cache(maxsize=256)
def _sum(path: Path, *_state: int) -> str:
    return artifacts.sha256(path)


def _clear(artifact: Artifact) -> None:
    """Remove the arrays of artefacts that are gone and of what stood here before."""
    here = place(artifact)
    for folder in here.parent.parent.glob("*"):
        if not (artifact.path.resolve().parent / folder.name).exists():
            shutil.rmtree(folder, ignore_errors=True)
    same = here.name.partition("-")[0] + "-"  # another user's of the same artefact stay
    for folder in here.parent.glob("*"):
        if not folder.name.startswith(same):
            shutil.rmtree(folder, ignore_errors=True)


def _open(path: Path, rows: int) -> NDArray[np.float32]:
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, OSError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", f"remove {path.parent}") from error
    if len(array) != rows or array.dtype != np.float32:
        raise IntegrityError(
            f"{path} has {len(array)} rows of {array.dtype} instead of {rows} of float32",
            f"remove {path.parent}",
        )
    return np.asarray(array)


def _room(file: IO[bytes], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A mapped float32 array whose space on the disk is taken: a full disk is an error here."""
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    file.flush()
    offset = file.tell()
    os.posix_fallocate(file.fileno(), 0, offset + 4 * int(np.prod(shape)))
    return np.asarray(np.memmap(file, np.float32, "r+", offset, shape))


def _write(source: Path, targets: dict[str, Path], ids: NDArray[np.int64]) -> None:
    find = lookup(ids)
    with contextlib.ExitStack() as stack:
        files = {n: stack.enter_context(artifacts.writing(p)) for n, p in targets.items()}
        maps: dict[str, NDArray[np.float32]] = {}
        seen = np.zeros(len(ids), bool)
        for table in tables.batches(source, None, ["source_id", *targets], tables.GROUP):
            rows = find(arrays.column(table, "source_id"))
            if (rows < 0).any():
                raise IntegrityError(f"{source} holds stars that its objects do not", "")
            seen[rows] = True
            for name, file in files.items():
                values = arrays.column(table, name)
                if name not in maps:
                    maps[name] = _room(file, (len(ids), values.shape[1]))
                maps[name][rows] = values
        for array in maps.values():
            for part in blocks(*array.shape):
                if not seen[part].all():
                    array[part][~seen[part]] = np.nan
