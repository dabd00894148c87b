"""The figures of README: each is found by the script that measures them, and a change is seen."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
spec = importlib.util.spec_from_file_location("figures", ROOT / "examples" / "readme_figures.py")
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)
WRITTEN = figures.parse(README)


def test_every_row_of_the_table_is_found():
    table = README.split(figures.BEGIN)[1].split(figures.END)[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(WRITTEN) == len(lines) - 2 > 5
    for name, figure in WRITTEN.items():
        assert f"| {name} |" in table
        assert np.isfinite(figure).all()


def test_what_follows_from_the_selection_is_right():
    stars = WRITTEN["stars, of them test stars"]
    for k in (1, 10):
        chance = WRITTEN[f"recall@{k}: XP found from photometry"].plain
        assert chance == pytest.approx(k / stars.plain, rel=2e-3)
    assert f"{stars.value:,.0f} real stars" in README


def test_the_script_measures_the_rows_that_are_written():
    assert tuple(WRITTEN) == figures.ROWS


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("column", ["value", "plain"])
def test_a_changed_figure_is_seen(name, column):
    figure = WRITTEN[name]
    changed = figure._replace(**{column: getattr(figure, column) * 1.25 + 0.001})
    assert figures.differences(WRITTEN, WRITTEN) == []
    found = figures.differences(WRITTEN | {name: changed}, WRITTEN)
    assert len(found) == 1
    assert name in found[0]


def test_a_figure_within_its_tolerance_passes():
    name = "recall@1: XP found from photometry"
    near = WRITTEN[name]._replace(value=WRITTEN[name].value + 0.04)
    far = WRITTEN[name]._replace(value=WRITTEN[name].value + 0.06)
    assert figures.differences(WRITTEN, WRITTEN | {name: near}) == []
    assert figures.differences(WRITTEN, WRITTEN | {name: far}) != []


def test_a_row_that_is_missing_on_either_side_is_seen():
    name = next(iter(WRITTEN))
    fewer = {n: f for n, f in WRITTEN.items() if n != name}
    assert figures.differences(WRITTEN, fewer) == [
        f"'{name}' stands in README.md and is not measured"
    ]
    assert figures.differences(fewer, WRITTEN) == [f"'{name}' is measured and not in README.md"]


def test_a_row_without_a_number_is_refused():
    with pytest.raises(ValueError, match="no number"):
        figures.parse(README.replace("| 3,000 |", "| many |"))
    with pytest.raises(ValueError, match="no table"):
        figures.parse("# mmclip")


def test_numbers_are_written_into_their_rows_and_read_again():
    measured = {n: figures.Figure(f.value * 2, f.plain) for n, f in WRITTEN.items()}
    text = figures.write(README, measured)
    again = figures.parse(text)
    for name, figure in measured.items():
        assert again[name].value == pytest.approx(figure.value, rel=5e-3)
    assert figures.write(text, WRITTEN) == README


def test_the_picture_is_compared_by_its_pixels():
    from matplotlib import image

    before = (ROOT / "docs" / "pictures" / "first_look.png").read_bytes()
    assert figures.unlike(before, before) == 0
    pixels = image.imread(io.BytesIO(before))
    other = io.BytesIO()
    image.imsave(other, 1 - pixels[..., :3], format="png")
    same = io.BytesIO()
    image.imsave(same, pixels, format="png")
    assert figures.unlike(same.getvalue(), other.getvalue()) > figures.PICTURE
    assert figures.unlike(before, _blank()) == float("inf")


def _blank():
    from matplotlib import image

    file = io.BytesIO()
    image.imsave(file, np.zeros((4, 4, 4)), format="png")
    return file.getvalue()
