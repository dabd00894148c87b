"""The door to numba and UMAP, which brings it: loaded when used, under OpenMP's own limit."""

import inspect
import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def limit_threads() -> None:
    """Let numba, which is about to be imported, use as many threads as OMP_NUM_THREADS says.

    It would take every core, and through the OpenMP that it shares with PyTorch it would make
    PyTorch do so too from then on.
    """
    if told := _told():
        os.environ.setdefault("NUMBA_NUM_THREADS", str(told))


def _told() -> int:
    """How many threads OMP_NUM_THREADS asks for; 0 if it says nothing."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(told) if told.isdigit() else 0


def _numba() -> Any:
    """The module; None where it is absent."""
    limit_threads()
    try:
        import numba
    except ImportError:
        return None
    return numba


@dataclass(frozen=True)
class Interpolation:
    """Linear interpolation of many rows at once; each writes into the arrays it is given last.

    Their numbers are those of `mmclip.modalities.resample` to the last bit.

    Attributes:
        alike: (wavelengths, offsets, values, left, right, share, length, out, done): the rows
            whose wavelengths are those of the first one, by its neighbours and shares.
        each: (wavelengths, offsets, values, errors, hold, grid, out, out of errors, done): the
            rows that are not done and whose wavelengths increase. Values and errors are used as
            they are where `hold`, and the ends held; else a point beside a bad pixel, or outside,
            is NaN. An empty array of errors: there are none.
    """

    alike: Callable[..., None]
    each: Callable[..., None]


@lru_cache
def interpolation() -> Interpolation | None:
    """The compiled loops, kept on the disk between processes; None where numba is absent."""
    numba = _numba()
    if numba is None:
        return None

    def alike(
        waves: Any, offsets: Any, values: Any, left: Any, right: Any, share: Any, length: int,
        out: Any, done: Any,
    ) -> None:  # fmt: skip
        for row in range(len(offsets) - 1):
            start = offsets[row]
            other = 0 if offsets[row + 1] - start == length else 1
            if not other:
                for k in range(length):
                    other += waves[start + k] != waves[k]
            done[row] = not other
            if not other:
                for i in range(len(left)):
                    before = np.float64(values[start + left[i]])
                    after = np.float64(values[start + right[i]])
                    out[row, i] = before * (1 - share[i]) + after * share[i]

    def each(
        waves: Any, offsets: Any, values: Any, errors: Any, hold: bool, grid: Any, out: Any,
        spread: Any, done: Any,
    ) -> None:  # fmt: skip
        for row in range(len(offsets) - 1):
            start, end = offsets[row], offsets[row + 1]
            if done[row] or end - start < 2:
                continue
            increases = waves[start] > 0 and np.isfinite(waves[end - 1])
            for k in range(start, end - 1):
                increases &= waves[k + 1] > waves[k]
            if not increases:
                continue
            done[row] = True
            known = False
            for k in range(start, end if len(errors) else start):
                known |= np.isfinite(errors[k]) and errors[k] > 0
            at = start
            for i in range(len(grid)):
                x = min(max(grid[i], waves[start]), waves[end - 1])
                if x != grid[i] and not hold:
                    continue
                while at < end - 2 and waves[at + 1] <= x:
                    at += 1
                share = (x - waves[at]) / (waves[at + 1] - waves[at])
                value = error = 0.0
                bad = False
                for k, part in ((at, 1 - share), (at + 1, share)):
                    if part > 0:
                        good = hold or np.isfinite(values[k])
                        if known and not hold:
                            good &= np.isfinite(errors[k]) and errors[k] > 0
                        bad |= not good
                        value += np.float64(values[k]) * part
                        if known:
                            error += part * part * (np.float64(errors[k]) * errors[k])
                if not bad:
                    out[row, i] = value
                    if known:
                        spread[row, i] = np.sqrt(error)

    return Interpolation(_threaded(_made(numba, alike), 2), _threaded(_made(numba, each), 3))


def umap(folder: Path) -> Any:
    """The module `umap`, whose compiled loops are kept in a folder between processes.

    It and pynndescent compile most of theirs anew in each process: half a minute for a map of 400
    stars, minutes from 4,096 stars on. What cannot be kept or read is compiled as before.
    Distances between all pairs, which it takes below 4,096 stars, are those of scikit-learn.

    Args:
        folder: Where they are kept, in a folder for each set of versions.
    """
    limit_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that TensorFlow is absent
        import umap
    with suppress(ImportError, AttributeError, OSError, RuntimeError):
        used = ("umap-learn", "pynndescent", "numba")
        own = folder / "_".join(f"{name}-{version(name)}" for name in used)
        keep(own, "umap", "pynndescent")
    with suppress(ImportError, AttributeError):
        umap.umap_.pairwise_distances = distances_of(umap.distances)
    return umap


def distances_of(metrics: Any) -> Callable[..., Any]:
    """scikit-learn's distances of all pairs, where UMAP hands it a compiled function.

    scikit-learn would call that from Python, pair by pair: 6 microseconds each, 20 s for a map of
    3,000 stars and 10 ms for every star placed on it.
    """
    from sklearn.metrics import pairwise_distances

    named = {metrics.cosine: "cosine", metrics.euclidean: "euclidean"}

    def distances(x: Any, y: Any = None, metric: Any = "euclidean", **options: Any) -> Any:
        if metric in named:
            x, y = (None if a is None else np.asarray(a, np.float64) for a in (x, y))
        return pairwise_distances(x, y, metric=named.get(metric, metric), **options)

    return distances


def keep(folder: Path, *packages: str) -> None:
    """Keep what the functions of imported packages are compiled to, in a folder.

    Those that are kept already stay where they are. Not kept are those that are given a function
    (`dist`): these are compiled for that object, which is another one in each process.
    """
    names = ("numba", "numba.core.caching", "numba.core.dispatcher")
    numba: Any
    caching: Any
    dispatcher: Any
    numba, caching, dispatcher = map(import_module, names)

    class Kept(caching.FunctionCache):  # type: ignore[misc]
        def save_overload(self, *given: Any) -> None:
            with suppress(OSError):  # a full disk
                super().save_overload(*given)

        def load_overload(self, *given: Any) -> Any:
            with suppress(Exception):  # whatever unpickling a damaged file raises
                return super().load_overload(*given)
            return None

    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    loaded = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] in packages]
    values = [it for module in loaded for it in list(vars(module).values())]
    try:
        for it in values:
            kept = getattr(it, "_cache", None)
            if not isinstance(it, dispatcher.Dispatcher) or not isinstance(kept, caching.NullCache):
                continue
            if "dist" not in inspect.signature(it.py_func).parameters:
                it._cache = Kept(it.py_func)
    finally:
        numba.config.CACHE_DIR = before


@lru_cache
def dropout() -> Callable[..., None] | None:
    """The compiled loop of dropout; None where numba is absent.

    Its arguments: (flat values, two random uint32, edge, scale). An entry is multiplied by `scale`
    if its 32 random bits are `edge` or more, else by 0, where it lies: two arrays would have to be
    told apart before the loop can be vectorised. The same two numbers give the same decisions.

    Source:
        The two multiplications of 32 bits: C. Wellons 2018, "Prospecting for hash functions",
        the function lowbias32 in its later, better constants.
    """
    numba = _numba()
    if numba is None:
        return None
    u = np.uint32

    def drop(values: Any, first: Any, second: Any, edge: Any, scale: Any) -> None:
        for i in range(values.size):
            bits = u(u(i) + first)
            bits = u(bits ^ (bits >> u(16)))
            bits = u(u(bits * u(0x21F0AAAD)) ^ second)
            bits = u(bits ^ (bits >> u(15)))
            bits = u(bits * u(0xD35A2D97))
            bits = u(bits ^ (bits >> u(15)))
            values[i] *= np.float32(bits >= edge) * scale

    return _made(numba, drop)


@lru_cache
def keep_best() -> Callable[..., None] | None:
    """The compiled loop that keeps the best of scores; None where numba is absent.

    Its arguments: (scores [asking, candidates], asking, candidates, best [queries, k], which): the
    numbers of the queries and candidates; each query's k best so far, best first, of equal ones the
    lower number, and the numbers of these. The last two are written to. NaN is never kept.
    """
    numba = _numba()
    if numba is None:
        return None
    step = 32  # scores that are compared with the worst one kept before any is looked at alone

    def keep_of(scores: Any, asking: Any, names: Any, best: Any, which: Any) -> None:
        last = best.shape[1] - 1
        for query in range(len(asking)):
            kept, named, row = best[asking[query]], which[asking[query]], scores[query]
            for start in range(0, len(names), step):
                end = min(start + step, len(names))
                worst, hit = kept[last], False
                for i in range(start, end):
                    hit |= row[i] >= worst
                for i in range(start, end if hit else start):
                    at, score, name = last, row[i], names[i]
                    if not (score > kept[at] or (score == kept[at] and name < named[at])):
                        continue
                    while at > 0 and (
                        score > kept[at - 1] or (score == kept[at - 1] and name < named[at - 1])
                    ):
                        kept[at], named[at] = kept[at - 1], named[at - 1]
                        at -= 1
                    kept[at], named[at] = score, name

    return _made(numba, keep_of)


def _made(numba: Any, loop: Callable[..., None]) -> Callable[..., None]:
    """A loop to be compiled, and kept on the disk where there is a place for it."""
    try:
        made: Callable[..., None] = numba.njit(nogil=True, cache=True)(loop)
    except RuntimeError:
        made = numba.njit(nogil=True)(loop)
    return made


def threads() -> int:
    """How many threads a loop takes: those of OMP_NUM_THREADS, else all of this process."""
    if told := _told():
        return told
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threaded(loop: Callable[..., None], written: int) -> Callable[..., None]:
    """A loop over rows, a block of rows a thread; its last arguments have a row each.

    By threads of Python's own: a process that used numba's, which are OpenMP's, cannot fork.
    """

    def run(first: Any, offsets: Any, *given: Any) -> None:
        rows = len(offsets) - 1
        count = max(1, min(threads(), rows))
        cuts = [rows * i // count for i in range(count + 1)]

        def block(a: int, b: int) -> None:
            loop(
                first, offsets[a : b + 1], *given[:-written], *(it[a:b] for it in given[-written:])
            )

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(block, cuts[:-1], cuts[1:]))

    return run
