"""Cuts on tables."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmclip.cuts import where
from mmclip.errors import MmclipError

TABLE = pa.table(
    {
        "source_id": pa.array([2**53, 2**53 + 1, 7], pa.int64()),
        "teff": pa.array([4000.0, float("nan"), 6000.0]),
        "class": pa.array(["ROT", "EW", None]),
    }
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("teff > 4000", [False, False, True]),
        ("teff >= 4e3", [True, False, True]),
        ("teff != 4000", [False, False, True]),
        ("source_id = 9007199254740993", [False, True, False]),
        ("class = ROT", [True, False, False]),
        ("class != 'ROT'", [False, True, False]),
        ("teff < 5000 AND class = \"ROT\"", [True, False, False]),
    ],
)  # fmt: skip
def test_a_cut_keeps_what_it_says(text, kept):
    assert where(TABLE, text).tolist() == kept


@pytest.mark.parametrize(
    "text",
    ["", "teff", "teff >", "tef > 3", "teff > hot", "teff > 3 or 1", "__import__('os') = 1",
     "teff > 3;", "1 = 1"],
)  # fmt: skip
def test_what_is_no_cut_is_refused(text):
    with pytest.raises(MmclipError):
        where(TABLE, text)


@given(st.text(max_size=40))
def test_no_text_crashes_it(text):
    try:
        kept = where(TABLE, text)
    except MmclipError:
        return
    assert kept.dtype == np.bool_


KINDS = pa.table(
    {
        "word": ["9", "10", "x"],
        "small": pa.array([1, 2, 3], pa.int8()),
        "half": pa.array(np.array([0.5, 2, 60000], np.float16)),
        "big": pa.array([1, 2, 2**64 - 1], pa.uint64()),
        "flag": [True, False, None],
        "kind": pa.array(["9", None, "x"]).dictionary_encode(),
        "none": pa.nulls(3),
    }
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("word = 9", [True, False, False]),
        ("word != '9'", [False, True, True]),
        ("kind = 9", [True, False, False]),
        ("small > 1000", [False] * 3),
        ("small > -1000 and small != 2", [True, False, True]),
        ("small = '3'", [False, False, True]),
        ("half < 100000", [True] * 3),
        ("half > 1e6", [False] * 3),
        ("big > 9223372036854775808", [False, False, True]),
        ("big > -1", [True] * 3),
        ("flag = 0", [False, True, False]),
        ("flag = 'False'", [False, True, False]),
        ("none = 3", [False] * 3),
    ],
)
def test_columns_of_every_type_are_compared_as_what_they_are(text, kept):
    assert where(KINDS, text).tolist() == kept


@pytest.mark.parametrize("text", ["word > 5", "word < 10", "word = 9.0", "kind >= 1"])
def test_a_number_is_not_compared_with_text(text):
    # As texts '10' < '9' and '5' < 'x': every answer would be an accident of spelling.
    with pytest.raises(MmclipError, match="compared with the number"):
        where(KINDS, text)
