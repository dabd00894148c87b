"""The pages of docs/: each is in the site, its links lead somewhere, its code runs."""

import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest

from mmclip.cli import COMMANDS
from mmclip.encoders import Encoder, EncoderConfig
from mmclip.surveys import Survey

TOP = Path(__file__).parents[1]
DOCS = TOP / "docs"
PAGES = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))
SITE = (TOP / "mkdocs.yml").read_text()


def anchors(page):
    """Anchors of the headings of a page, as GitHub and the site make them."""
    made = set(re.findall(r'<a id="([^"]+)"', (DOCS / page).read_text()))
    for heading in re.findall(r"^#+ (.*)$", (DOCS / page).read_text(), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        made.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return made


def test_every_page_is_in_the_navigation_once():
    listed = re.findall(r"[\w/.-]+\.md$", SITE, re.MULTILINE)
    assert sorted(listed) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", (DOCS / page).read_text()):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = ((DOCS / page).parent / path).resolve() if path else DOCS / page
        assert there.exists(), f"{page}: {target}"
        if anchor and not anchor.startswith("mmclip."):
            assert anchor in anchors(there.relative_to(DOCS)), f"{page}: {target}"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_page_opens_with_the_question_that_it_answers(name):
    title, _, question = (DOCS / "commands" / f"{name}.md").read_text().split("\n")[:3]
    assert title == f"# mmclip {name}"
    assert re.fullmatch(r"\*\*.+[?.]\*\*", question)


def test_the_examples_of_command_pages_are_those_of_the_script():
    spec = importlib.util.spec_from_file_location("e", TOP / "examples" / "command_examples.py")
    examples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(examples)
    for name in COMMANDS:
        page = (DOCS / "commands" / f"{name}.md").read_text()
        shown = re.search(f"{examples.BEGIN}\n```\n(.*?)```\n{examples.END}", page, re.DOTALL)
        assert bool(shown) == (name in examples.EXAMPLES), name
        if shown:
            typed = [line[9:] for line in shown[1].splitlines() if line.startswith("$ mmclip ")]
            assert typed == examples.EXAMPLES[name]
            drawn = [line for line in shown[1].splitlines() if line[:1] in "┏┃┡│└"]
            assert all(len(line) <= 80 for line in drawn)
            assert examples.written(page, shown[1].rstrip()) == page


def blocks(page):
    """The Python blocks of a page, run: a module each."""
    for code in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        made = types.ModuleType("shown")
        exec(compile(code, page, "exec"), made.__dict__)
        yield made


def test_the_survey_and_the_encoder_of_the_page_are_plug_ins():
    import torch

    survey, encoder = blocks("readers/extend.md")
    assert isinstance(survey.SURVEY, Survey)
    assert set(survey.SURVEY.fetch(None).provenance) == {"metadata"}
    assert isinstance(encoder.ENCODER, Encoder)
    net = encoder.ENCODER.build((7,), EncoderConfig(width=4))
    values, mask = torch.ones(3, 7), torch.ones(3, 7, dtype=torch.bool)
    mask[:, 0] = False
    hidden = values.clone()
    hidden[:, 0] = 99.0
    assert net(values, mask).shape == (3, 4)
    assert torch.equal(net(values, mask), net(hidden, mask))


@pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="needs pip install '.[docs]'"
)
@pytest.mark.filterwarnings("ignore")
def test_the_site_builds_strictly(tmp_path, monkeypatch):
    from mkdocs.__main__ import cli

    monkeypatch.chdir(TOP)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    cli(["build", "--strict", "-q", "-d", str(tmp_path)], standalone_mode=False)
    assert "conformal" in (tmp_path / "search" / "search_index.js").read_text()
    asked = re.findall(r'<script src="(https?:[^"]+)"', (tmp_path / "index.html").read_text())
    assert not asked
    assert sys.modules["mkdocs"]
