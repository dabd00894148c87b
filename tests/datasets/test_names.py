"""Names: any that a catalogue gives leads to the source_id; a doubtful one is refused."""

import numpy as np
import pyarrow as pa
import pytest

from mmclip.datasets.names import by_name, check_label, ids_of, name_columns
from mmclip.errors import UsageError

OBJECTS = pa.table(
    {"source_id": [11, 22, 33], "object_name": ["star 1", "star 2", "twin"],
     "css_id": [3025001014168, 1001119065384, 5],
     "apogee_id": ["2M00034301-7717269", "2M05000000+1000000", None],
     "other_name": [None, "twin", None], "teff": [1.0, 2.0, 3.0]}
)  # fmt: skip


def test_columns_that_name_are_known_by_their_names():
    assert name_columns(OBJECTS) == ["object_name", "css_id", "apogee_id", "other_name"]


@pytest.mark.parametrize(
    ("text", "source_id"),
    [("star 1", 11), ("1001119065384", 22), ("2M00034301-7717269", 11),
     ("2MASS J05000000+1000000", 22), ("J05000000+1000000", 22), ("05000000+1000000", 22),
     ("star 9", -1), ("STAR 1", -1)],
)  # fmt: skip
def test_a_name_leads_to_its_object(text, source_id):
    assert by_name(OBJECTS, ["nobody", text]).tolist() == [-1, source_id]


def test_a_name_of_two_objects_is_refused():
    with pytest.raises(UsageError, match="several objects"):
        by_name(OBJECTS, ["twin"])


def test_ids_need_no_names_and_what_is_neither_is_refused():
    def never():
        raise AssertionError

    assert ids_of(["22", "Gaia DR3 33"], np.array([11, 22, 33]), never) == [22, 33]
    mixed = ids_of(["3025001014168", "33", "44"], np.array([11, 22, 33]), lambda: OBJECTS)
    assert mixed == [11, 33, 44]  # 44 is an id that is not there: for the caller to say
    with pytest.raises(UsageError, match="'star 9' is not"):
        ids_of(["star 9"], np.array([11]), lambda: OBJECTS)


def test_a_column_that_names_the_objects_is_no_label():
    for name in ("apogee_id", "css_id", "object_name"):
        with pytest.raises(UsageError, match="names the objects") as refused:
            check_label(OBJECTS, name)
        assert refused.value.hint == "--target teff"
    many = pa.table({"source_id": range(100), "remark": [f"text {i}" for i in range(100)],
                     "class": ["A", "B"] * 50})  # fmt: skip
    with pytest.raises(UsageError, match="remark"):
        check_label(many, "remark")
    check_label(many, "class")
    check_label(OBJECTS, "teff")
