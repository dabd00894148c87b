"""Columns of the objects as arrays of codes and flags, without a Python object a row."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays


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
