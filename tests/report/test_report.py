"""The page: every text escaped, nothing fetched, every digit of an id."""

import base64
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mmclip import plots, report
from mmclip.datasets.objects import Diagram, Portrait
from mmclip.report import Section, outliers

EVIL = '<script>alert("x")</script>'
ID = 6917528997577384321  # needs more than a double's 53 bits
FETCHING = {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}


class Seen(HTMLParser):
    """Tags with their attributes, and the text of each table cell, of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.cells, self.inside = [], [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag in ("td", "th")
        if self.inside:
            self.cells.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            tag, attrs, text = self.cells[-1]
            self.cells[-1] = (tag, attrs, text + data)

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def picture():
    return plots.png_bytes(plots.curves_figure([0, 1], {"a": [2, 1]}, "loss"), dpi=30)


@pytest.mark.parametrize("place", ["title", "subtitle", "footer", "heading", "text", "caption",
                                   "cell", "column"])  # fmt: skip
def test_a_script_in_any_text_is_shown_not_run(place):
    text = {p: EVIL if p == place else "calm" for p in (
        "title", "subtitle", "footer", "heading", "text", "caption", "cell", "column")}  # fmt: skip
    section = Section(
        text["heading"], text["text"], [{text["column"]: text["cell"]}],
        [(picture(), text["caption"])],
    )  # fmt: skip
    html = report.page(text["title"], text["subtitle"], [section], text["footer"])
    assert EVIL not in html
    assert "&lt;script&gt;alert(" in html
    assert len(Seen(html).named("script")) == 1  # our own


def test_a_quote_in_a_caption_stays_inside_the_alt_text():
    words = 'x" onerror="alert(1)'
    html = report.page("t", "", [Section("s", pictures=[(picture(), words)])], "")
    (image,) = Seen(html).named("img")
    assert set(image) == {"alt", "src"}
    assert image["alt"] == words


def test_nothing_is_fetched():
    html = report.page("t", "s", [Section("a", "b", [{"c": 1}], [(picture(), "d")])], "f")
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    page = Seen(html)
    assert not page.named("link")
    places = [v for _, attrs in page.tags for k, v in attrs.items() if k in FETCHING]
    assert places
    assert all(v.startswith(("#", "data:image/png;base64,")) for v in places)


def test_the_policy_forbids_the_network():
    meta = Seen(report.page("t", "", [], "")).named("meta")
    (policy,) = [m["content"] for m in meta if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["style-src"] == rules["script-src"] == "'unsafe-inline'"


def test_pictures_survive_the_page():
    body = picture()
    html = report.page("t", "", [Section("s", pictures=[(body, "loss")])], "")
    (image,) = Seen(html).named("img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == body


@pytest.mark.parametrize("kind", [int, np.int64, np.uint64])
def test_every_digit_of_an_id_is_shown(kind):
    html = report.page("t", "", [Section("s", table=[{"source_id": kind(ID)}])], "")
    assert ("td", {"class": "n"}, str(ID)) in Seen(html).cells


@pytest.mark.parametrize(("value", "text"), [
    (0.123456, "0.1235"), (12345.678, "12350"), (np.float32(0.1), "0.1"), (-2.0, "-2"),
    (float("nan"), "–"), (None, "–"), (True, "yes"), (np.bool_(False), "no"),
    (1.23456e-7, "1.235e-07"), (float("inf"), "inf"), ("xp", "xp"), (np.str_("xp"), "xp"),
])  # fmt: skip
def test_values_read_as_an_astronomer_writes_them(value, text):
    assert report.cell(value) == text


def test_numbers_stand_right_and_words_left():
    rows = [{"n": 1.5, "w": "a", "flag": True}, {"n": None, "w": 2, "flag": False}]
    heads = {t: a.get("class") for g, a, t in Seen(report._table(rows)).cells if g == "th"}
    assert heads == {"n": "n", "w": None, "flag": None}


def test_a_rounded_number_is_sorted_by_its_full_value():
    cells = Seen(report._table([{"a": 0.123456}, {"a": np.float64(0.123457)}])).cells
    assert [float(a["data-v"]) for g, a, _ in cells if g == "td"] == [0.123456, 0.123457]


def test_rows_with_other_columns_are_kept():
    cells = Seen(report._table([{"a": 1}, {"b": 2}])).cells
    assert [t for _, _, t in cells] == ["a", "b", "1", "–", "–", "2"]


def test_the_badge_stands_on_modelled_sections_only():
    sections = [Section("one", modelled=True), Section("two")]
    parts = re.findall(r"<section.*?</section>", report.page("t", "", sections, ""), re.S)
    assert ["modelled data" in part for part in parts] == [True, False]


def test_the_contents_lead_to_every_section():
    page = Seen(report.page("t", "", [Section("one"), Section("two")], ""))
    assert [a["href"][1:] for a in page.named("a")] == [s["id"] for s in page.named("section")]


def test_write_replaces_the_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "index.html"
    path.write_text("old")
    report.write(path, "Hα")
    assert path.read_text(encoding="utf-8") == "Hα"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_in_a_browser_a_wide_table_says_that_it_scrolls_and_a_narrow_one_does_not(tmp_path):
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip(f"no browser at {chromium}")
    wide = {"source_id": ID} | {f"column {i}": 1.5 for i in range(30)}
    sections = [Section("wide", table=[wide]), Section("narrow", table=[{"source_id": ID}])]
    report.write(tmp_path / "page.html", report.page("t", "s", sections, "f"))
    shown = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=600,700",
         f"--user-data-dir={tmp_path / 'profile'}", "--disable-background-networking",
         "--dump-dom", f"file://{tmp_path / 'page.html'}"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert re.findall(r'class="(scroll[ a-z]*)"', shown) == ["scroll more", "scroll"]


def test_a_gallery_says_why_a_star_is_not_drawn_somewhere():
    def view(kind):
        return Portrait(ID, "photometry", kind, np.zeros(2), np.zeros(2), None, "", "", True, False)

    diagram = Diagram(np.array([1.0, 1.0]), np.array([4.0, np.nan]), "BP - RP", "absolute G [mag]")
    places = np.zeros((2, 2), np.float32)
    curve, folded = view("light curve"), view("folded light curve")
    assert outliers.missing(diagram, 0, places, [curve, folded]) == []
    assert "parallax" in outliers.missing(diagram, 1, places, [])[0]
    said = " ".join(outliers.missing(None, 0, None, [curve]))
    for word in ("no colour-magnitude diagram", "no map: mmclip map", "no period is known"):
        assert word in said
