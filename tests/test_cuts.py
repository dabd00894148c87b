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
