"""A view prepared block by block, each a part on disk: bounded memory, many processes, resumed.

A part is `VIEW-00012.values.npy` (and `.errors.npy`, `.correlations.npy`) with
`VIEW-00012.parquet` (source_id and reason of each row), which is written last: a part without it
does not exist.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.artifacts import paths
from mmclip.config import Json
from mmclip.datasets import tables
from mmclip.datasets.join import Block
from mmclip.datasets.medians import median_and_mad
from mmclip.errors import MmclipError, UsageError
from mmclip.modalities import Columns, Modality, Statistics, registry
from mmclip.modalities.robust import mad, median
from mmclip.modalities.settings import configured, plain

ROWS = 1024  # raw rows held at once by a process
WORTH = 8192  # raw rows that are worth a process of their own
PIECE = 1 << 22  # values read at once for exact medians
HELD = 1 << 23  # values up to which these are held


@dataclass(frozen=True)
class Part:
    """One prepared block on disk, not yet normalised; of it a byte a row is held."""

    values: Path
    errors: Path | None
    about: Path

    @property
    def source_id(self) -> NDArray[np.int64]:
        """[rows]."""
        return arrays.column(tables.read(self.about, ["source_id"]), "source_id").astype(np.int64)

    @property
    def reason(self) -> pa.ChunkedArray:
        """[rows] why an object was rejected; empty for a good one."""
        return tables.read(self.about, ["reason"])["reason"]

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """[rows] True where the object was not rejected."""
        return np.asarray(pc.equal(self.reason, "").to_numpy(), np.bool_)

    def pieces(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any] | None]]:
        """(source_id, values, errors) of the good rows, some thousand at a time."""
        values = np.load(self.values, mmap_mode="r")
        errors = None if self.errors is None else np.load(self.errors, mmap_mode="r")
        ids, good = self.source_id, self.good
        for start in range(0, len(values), tables.GROUP):
            here = slice(start, start + tables.GROUP)
            rows = good[here]
            spread = None if errors is None else errors[here][rows]
            yield ids[here][rows], values[here][rows], spread


def settle(modality: Modality, blocks: Sequence[Block], given: Json) -> Modality:
    """The modality under the settings given and those that the first raw rows fix.

    Raises:
        UsageError: If a column that it needs is not there, or a setting cannot be.
    """
    first = next((b for b in blocks if len(b.keep)), None)
    if first is None:
        return configured(modality, given)
    if modality.detect is not None:
        columns = next(_read(first, _named(modality), 64))[1]
        given = {**modality.detect(columns, given), **given}
    ready = configured(modality, given)
    for file in dict.fromkeys(b.file for b in blocks):
        held = tables.names(file)
        lacking = [c.name for c in ready.columns if not c.optional and c.name not in held]
        if lacking:
            own = ", ".join(n for n in held if n != "source_id")
            raise UsageError(
                f"{modality.source} of {file.parent} has no column {', '.join(lacking)} "
                f"(it has: {own})",
                f"--set {modality.name}.columns=NAME,NAME"
                if "columns" in plain(modality)
                else f"mmclip info {file.parent}",
            )
    return ready


def prepare_all(
    modality: Modality,
    blocks: Sequence[Block],
    folder: Path,
    workers: int,
    tell: Callable[[str], None],
) -> list[Part]:
    """Prepare every block that is not yet there.

    Args:
        modality: Under its resolved settings.
        blocks: In the order of the parts.
        folder: Where the parts lie.
        workers: Processes; 0: as many as there are processors and work for them.
        tell: Is told of progress.
    """
    todo = [k for k in range(len(blocks)) if not _done(folder, modality.name, k).is_file()]
    rows = sum(len(blocks[k].keep) for k in todo)
    if len(todo) < len(blocks):
        tell(
            f"{modality.name}: {len(blocks) - len(todo)} of {len(blocks)} blocks are there already"
        )
    if workers == 0:
        workers = min(os.cpu_count() or 1, rows // WORTH, len(todo))
    if workers <= 1:
        for k in todo:
            prepare_block(modality, blocks[k], folder, k)
    else:
        _in_processes(modality, [(k, blocks[k]) for k in todo], folder, workers)
    return [read_part(folder, modality.name, k) for k in range(len(blocks))]


def _in_processes(
    modality: Modality, todo: list[tuple[int, Block]], folder: Path, workers: int
) -> None:
    settings = plain(modality)
    try:
        with ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_follow
        ) as pool:
            try:
                # Workers inherit the mask: Ctrl-C is answered by the parent alone.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                name = modality.address
                jobs = [pool.submit(_job, name, settings, b, folder, k) for k, b in todo]
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what has begun is finished, no more
                raise
    except BrokenProcessPool as error:
        raise MmclipError(
            f"a process that prepared {modality.name} was killed (out of memory?)",
            "repeat the command, it resumes; with less at once: --workers 1",
        ) from error


def _follow() -> None:
    """In a worker: end when the parent has ended, even by SIGKILL."""
    parent = parent_process()
    if parent is not None:
        watched = [parent.sentinel]
        threading.Thread(target=lambda: (wait(watched), os._exit(1)), daemon=True).start()


def _job(name: str, settings: Json, block: Block, folder: Path, number: int) -> None:
    pa.set_cpu_count(1)
    modality = configured(registry.modality(name), settings)
    prepare_block(modality, block, folder, number)


def prepare_block(modality: Modality, block: Block, folder: Path, number: int) -> None:
    """Prepare one block and write it as a part."""
    length = int(np.prod(modality.size))
    kept = int(block.keep.sum())
    stem = paths.block(modality.name, number)
    final = {n: folder / paths.array(stem, n) for n in ("values", "errors", "correlations")}
    # Under names of its own: another process may be at the same block, and must not see half of it.
    halves = {n: p.with_name(f"{paths.TEMPORARY}{os.getpid()}-{p.name}") for n, p in final.items()}
    for name in ("errors", "correlations"):
        final[name].unlink(missing_ok=True)
    if kept == 0:
        np.save(halves["values"], np.zeros((kept, length), np.float32))
    maps: Json = {}
    ids, reasons, at = [], [], 0
    for rows, columns in _read(block, _named(modality), ROWS):
        if not len(rows):
            continue
        prepared = modality.prepare(columns)
        end = at + len(rows)
        arrays = (prepared.values, prepared.errors, prepared.correlations)
        for name, values in zip(halves, arrays, strict=True):
            if values is None:
                if name in maps:
                    maps[name][at:end] = np.nan
                continue
            flat = values.reshape(len(rows), -1)
            if name not in maps:
                maps[name] = _map(halves[name], (kept, flat.shape[1]))
                maps[name][:at] = np.nan
            maps[name][at:end] = flat
        ids.append(rows)
        reasons.append(prepared.reasons)
        at = end
    maps.clear()  # closes the files
    for name, path in halves.items():
        if path.is_file():
            os.replace(path, final[name])
    about = pa.table(
        {
            "source_id": pa.array(np.concatenate(ids) if ids else [], pa.int64()),
            "reason": pa.array(np.concatenate(reasons).tolist() if ids else [], pa.string()),
        }
    )
    tables.write(_done(folder, modality.name, number), about)


def _map(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A new array on disk whose room is taken now: a disk that fills up later kills a process."""
    made = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return made


def _named(modality: Modality) -> list[str]:
    return [c.name for c in modality.columns]


def _read(block: Block, names: list[str], rows: int) -> Iterator[tuple[NDArray[np.int64], Columns]]:
    """(source_id, columns) of the kept rows of a block, a few at a time."""
    held = tables.names(block.file)
    wanted = [n for n in names if n in held]
    at = 0
    for table in tables.batches(block.file, block.group, ["source_id", *wanted], rows):
        keep = block.keep[at : at + table.num_rows]
        at += table.num_rows
        if not keep.all():
            table = table.filter(pa.array(keep))
        ids = arrays.column(table, "source_id").astype(np.int64)
        yield ids, {n: arrays.raw_column(table, n) for n in wanted}


def _done(folder: Path, name: str, number: int) -> Path:
    return folder / paths.table(paths.block(name, number))


def read_part(folder: Path, name: str, number: int) -> Part:
    """Open a part."""
    values, errors = (
        folder / paths.array(paths.block(name, number), n) for n in ("values", "errors")
    )
    return Part(values, errors if errors.is_file() else None, _done(folder, name, number))


def statistics_of(
    modality: Modality, parts: Sequence[Part], training: Sequence[NDArray[Any]], method: str
) -> Statistics:
    """Centre and scale of each entry over the training rows of all parts, read a part at a time.

    Means and standard deviations are merged from part to part (Chan et al. 1983); medians and
    MADs are exact, found in several passes where the values are too many to be held.

    Args:
        training: Which rows of each part count.
        method: z, mad or none; as `mmclip.modalities.statistics`.
    """
    length = int(np.prod(modality.size))
    anchors = modality.anchors() if modality.anchors else np.arange(length)
    centre, scale = np.zeros(length), np.ones(length)
    entries = np.unique(anchors[anchors >= 0])
    if method == "none" or len(entries) == 0:
        return Statistics(centre, scale, "none" if len(entries) == 0 else method)
    every = len(entries) == length
    measure = _medians if method == "mad" else _moments
    middle, spread = measure(parts, training, slice(None) if every else entries)
    # A constant column has a spread of rounding errors, not of stars.
    varies = spread > 1e-12 * np.maximum(1.0, np.abs(middle))
    own_centre, own_scale = np.zeros(length), np.ones(length)
    own_centre[entries] = np.where(np.isfinite(middle), middle, 0.0)
    own_scale[entries] = np.where(varies, spread, 1.0)
    taken = anchors >= 0
    centre[taken], scale[taken] = own_centre[anchors[taken]], own_scale[anchors[taken]]
    return Statistics(centre, scale, method)


def _moments(
    parts: Sequence[Part], training: Sequence[NDArray[Any]], entries: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    width = len(np.arange(np.load(parts[0].values, mmap_mode="r").shape[1])[entries])
    total: tuple[Any, Any, Any] = (np.zeros(width), np.zeros(width), np.zeros(width))
    for part, rows in zip(parts, training, strict=True):
        values = np.load(part.values, mmap_mode="r")
        for start in range(0, len(values), ROWS):
            here = values[start : start + ROWS][rows[start : start + ROWS]][:, entries]
            if len(here):
                total = _merged(total, here.astype(np.float64))
    count, mean, square = total
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, mean, np.nan), np.sqrt(square / count)


def _merged(total: tuple[Any, Any, Any], values: NDArray[Any]) -> tuple[Any, Any, Any]:
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    some = np.maximum(count, 1)
    mean = np.where(finite, values, 0.0).sum(axis=0) / some
    square = (np.where(finite, values - mean, 0.0) ** 2).sum(axis=0)
    n, m, s = total
    both = np.maximum(n + count, 1)
    apart = mean - m
    return (
        n + count,
        m + np.where(count > 0, apart * count / both, 0.0),
        s + square + np.where(count > 0, apart**2 * n * count / both, 0.0),
    )


def _medians(
    parts: Sequence[Part], training: Sequence[NDArray[Any]], entries: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    width = np.load(parts[0].values, mmap_mode="r").shape[1]
    columns = len(np.arange(width)[entries])
    step = max(1, PIECE // width)

    def pieces() -> Iterator[NDArray[np.float32]]:
        for part, rows in zip(parts, training, strict=True):
            values = np.load(part.values, mmap_mode="r")
            for start in range(0, len(values), step):
                here = slice(start, start + step)
                yield np.asarray(values[here][rows[here]][:, entries])

    if sum(int(r.sum()) for r in training) * columns > HELD:
        middle, spread = median_and_mad(pieces, columns)
        return middle, 1.4826 * spread
    across = np.concatenate(list(pieces())).T
    return median(across), 1.4826 * mad(across)
