"""Results: what goes in comes out, as rows, Arrow, astropy and pandas, with its units."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.table import QTable

from mmclip.cli import output
from mmclip.errors import NotFound
from mmclip.results import from_rows, from_table

LARGE = 5937083312263887617  # odd, 19 digits: a float64 cannot hold it
ROWS = [
    {"source_id": LARGE, "method": "k-NN", "scatter": 81.5, "coverage": 0.68, "half": None},
    {"source_id": 2, "method": "mean", "scatter": math.nan},
]
COLUMNS = {"scatter": ("K", "1.4826 MAD of the residuals"), "cov*": ("", "fraction inside")}


def made():
    return from_rows(ROWS, "Teff of test stars", COLUMNS, how={"k": 13}, notes=["", "a warning"])


def test_rows_come_back_with_the_columns_that_apply_to_them():
    first, second = made()
    assert list(first)[:4] == ["source_id", "method", "scatter", "coverage"]
    assert (first["source_id"], first["coverage"]) == (LARGE, 0.68)
    assert set(second) == {"source_id", "method", "scatter"}
    assert math.isnan(second["scatter"])
    assert made()[-1]["source_id"] == 2
    with pytest.raises(IndexError):
        made()[2]


def test_a_slice_is_a_result_of_those_rows():
    assert [r["source_id"] for r in made()[:1]] == [LARGE]
    assert [r["source_id"] for r in made()[::-1]] == [2, LARGE]
    assert made()[1:].question == made().question
    assert len(made()[5:]) == 0


def test_a_null_in_a_column_of_every_row_stays():
    found = from_rows([{"n": None, "x": None}, {"n": 3, "x": 1.5}])
    assert list(found) == [{"n": None, "x": None}, {"n": 3, "x": 1.5}]


def test_fields_carry_unit_and_description():
    schema = made().table.schema
    assert schema.field("scatter").metadata[b"unit"] == b"K"
    assert schema.field("coverage").metadata[b"description"] == b"fraction inside"
    assert made().unit("scatter") == "K"
    assert made().unit("method") == ""


def test_astropy_gets_quantities_and_whole_ids():
    table = made().to_table()
    assert isinstance(table, QTable)
    assert table["scatter"][0] == 81.5 * units.K
    assert table["scatter"][0].to(units.mK).value == pytest.approx(81500)
    assert table["source_id"][0] == LARGE
    assert table.meta["how"] == {"k": 13}
    assert table["scatter"].info.description == "1.4826 MAD of the residuals"


def test_unknown_whole_numbers_are_masked_in_astropy_and_stay_whole_in_pandas():
    found = from_rows([{"gaia_id": None, "name": None}, {"gaia_id": LARGE, "name": "RR Lyr"}])
    table = found.to_table()
    assert table["gaia_id"].mask.tolist() == [True, False]
    assert table["gaia_id"][1] == LARGE
    assert table["name"].mask.tolist() == [True, False]
    frame = found.to_pandas()
    assert frame["gaia_id"].isna().tolist() == [True, False]
    assert int(frame["gaia_id"][1]) == LARGE


def test_pandas_knows_the_units():
    assert made().to_pandas().attrs["units"] == {"scatter": "K"}


def test_a_column_is_numpy_and_an_unknown_one_names_the_nearest():
    np.testing.assert_array_equal(made().column("source_id"), [LARGE, 2])
    with pytest.raises(NotFound, match="did you mean 'scatter'"):
        made().column("scater")


def test_ids_of_two_kinds_become_texts():
    assert [r["query_id"] for r in from_rows([{"query_id": LARGE}, {"query_id": "row 2"}])] == [
        str(LARGE),
        "row 2",
    ]


def test_units_of_a_table_stay_where_nothing_else_is_said():
    field = pa.field("teff", pa.float64(), metadata={b"unit": b"K", b"description": b"APOGEE"})
    found = from_table(pa.table({"teff": [5772.0]}, schema=pa.schema([field])), "the Sun")
    assert found.unit("teff") == "K"
    assert len(found) == 1


def test_notebooks_see_question_rows_and_notes():
    found = from_rows(ROWS, "a < b?", COLUMNS).noting("only <two> rows")
    assert "a &lt; b?" in found._repr_html_()
    assert "only &lt;two&gt; rows" in found._repr_html_()
    assert "a < b? (2 rows)" in repr(found)
    assert str(LARGE) in repr(found)
    assert "no rows" in repr(from_rows([], "nothing"))


@pytest.mark.parametrize("suffix", [".fits", ".vot", ".ecsv"])
def test_files_of_astropy_carry_units_and_whole_ids(tmp_path, suffix):
    file = tmp_path / f"x{suffix}"
    output.write(made(), file)
    back = QTable.read(file, **({"format": "votable"} if suffix == ".vot" else {}))
    assert int(back["source_id"][0]) == LARGE
    assert back["scatter"].unit == units.K


def test_json_lines_leave_out_what_does_not_apply(tmp_path, capsys):
    output.write(made(), tmp_path / "x.json")
    output.show(made(), True, None)
    out, err = capsys.readouterr()
    assert out == (tmp_path / "x.json").read_text()
    first, second = map(json.loads, out.splitlines())
    assert first["source_id"] == str(LARGE)
    assert second == {"source_id": "2", "method": "mean", "scatter": None}
    assert "a warning" in err


def test_parquet_keeps_units(tmp_path):
    output.write(made(), tmp_path / "x.parquet")
    assert pq.read_schema(tmp_path / "x.parquet").field("scatter").metadata[b"unit"] == b"K"
