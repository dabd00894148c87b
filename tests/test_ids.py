"""Rows of ids, and the best of several rows of an object, against a plain dictionary."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmclip import arrays, ids
from mmclip.errors import NotFound

NUMBERS = st.lists(st.integers(-30, 30), max_size=40)


def by_dictionary(known, asked):
    first = {}
    for row, number in enumerate(known):
        first.setdefault(number, row)
    return [first.get(number, -1) for number in asked]


@given(NUMBERS, NUMBERS, st.booleans(), st.integers(1, 9))
def test_rows_are_those_of_a_dictionary_in_any_order_and_any_chunk(known, asked, rising, chunk):
    known = sorted(known) if rising else known
    whole, ids.CHUNK = ids.CHUNK, chunk
    try:
        found = ids.rows_of(np.array(known, np.int64), np.array(asked, np.int64))
        again = ids.lookup(np.array(known, np.int64))(np.array(asked, np.int64))
    finally:
        ids.CHUNK = whole
    assert found.tolist() == again.tolist() == by_dictionary(known, asked)


def test_a_few_ids_among_many_that_do_not_rise_are_found_in_one_pass():
    known = np.random.default_rng(1).permutation(5000) * 3
    asked = np.array([7, 2999 * 3, 0])
    assert ids.rows_of(known, asked).tolist() == [
        -1, int(np.argmax(known == 8997)), int(np.argmax(known == 0))
    ]  # fmt: skip


def test_an_id_that_lost_its_last_digits_in_a_float_is_recognised():
    known = np.array([5937083312263887616, 17], np.int64)
    lost = np.array([int(float(known[0])) + 512], np.int64)
    with pytest.raises(NotFound, match="not among the stars of a") as raised:
        ids.required_rows(known, lost, "the stars of a")
    assert "last digits" in raised.value.hint


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30))
def test_the_best_row_is_the_first_of_the_lowest_rank(rows):
    number = np.array([n for n, _ in rows], np.int64)
    rank = np.array([r for _, r in rows], np.float64)
    expected = [
        min((r, i) for i, (n, r) in enumerate(rows) if n == one)[1] for one in sorted(set(number))
    ]
    assert ids.best_rows(number, rank).tolist() == expected
    firsts = [min(i for i, (n, _) in enumerate(rows) if n == one) for one in sorted(set(number))]
    assert ids.best_rows(number).tolist() == firsts


def test_a_row_that_is_not_there_is_null():
    column = pa.chunked_array([[1.0, 2.0], [3.0]])
    assert arrays.taken(column, np.array([2, -1, 0])).to_pylist() == [3.0, None, 1.0]


def test_splitmix64_gives_the_published_sequence():
    # The first outputs of the generator seeded with 1234567, as in its reference test vectors.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    step = 0x9E3779B97F4A7C15
    state = np.array([(1234567 + step * (n + 1)) % 2**64 for n in range(3)], np.uint64)
    assert arrays.splitmix64(state).tolist() == expected
