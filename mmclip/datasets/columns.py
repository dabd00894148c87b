"""Columns of the objects as arrays of codes and flags, without a Python object a row."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.datasets import tables

CHUNK = 1 << 20  # rows looked at at a time


def equals(table: pa.Table, name: str, word: str) -> NDArray[np.bool_]:
    """[rows] whether a column of texts says this word."""
    return np.asarray(pc.equal(table[name], word).fill_null(False).to_numpy(), np.bool_)


def coded(table: pa.Table, name: str) -> tuple[list[str], NDArray[np.int32]]:
    """The different texts of a column, sorted, and [rows] which one; -1 where null or empty."""
    array = arrays.whole(table, name).dictionary_encode()
    said = [str(v or "") for v in array.dictionary.to_pylist()]
    names = sorted(set(said) - {""})
    place = {n: i for i, n in enumerate(names)}
    codes = np.array([*(place.get(s, -1) for s in said), -1], np.int32)
    return names, codes[array.indices.fill_null(len(said)).to_numpy(zero_copy_only=False)]


def spelled(names: list[str], codes: NDArray[np.int32]) -> NDArray[np.object_]:
    """[rows] the text behind each code, one Python object a different text; -1 is empty."""
    return np.array([*names, ""], object)[codes]


def few(known: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """[ids] row of `known` that holds each of a few ids, -1 for none, without a table of them all.

    Args:
        known: [rows], each once; read a part at a time.
        ids: In any order.
    """
    wanted, back = np.unique(ids, return_inverse=True)
    rows = np.full(len(wanted), -1)
    for start in range(0, len(known) if len(wanted) else 0, CHUNK):
        part = known[start : start + CHUNK]
        place = np.minimum(np.searchsorted(wanted, part), len(wanted) - 1)
        here = np.flatnonzero(wanted[place] == part)
        rows[place[here]] = start + here
    return rows[back]


def behind(known: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """[ids] row of `known` that holds each id, -1 for none; None if both are the same ids."""
    if np.array_equal(known, ids):
        return None
    if len(known) == 0:
        return np.full(len(ids), -1)
    rows = tables.finder(known)(ids)
    return np.where(known[rows] == ids, rows, -1)
