"""The examples in docstrings say what is so."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "mmclip"
WITH_EXAMPLES = [
    ".".join(("mmclip", *f.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for f in sorted(ROOT.rglob("*.py"))
    if ">>> " in f.read_text()
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_hold(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def test_there_are_examples():
    assert WITH_EXAMPLES
