"""A hint is a command that works in this workspace, or an option of the one that was typed."""

import ast
import re
from pathlib import Path

import pytest

import mmclip
from mmclip import errors
from mmclip.cli import COMMANDS, application
from tests.cli.test_cli import ask

CASES = (
    ["search"],
    ["search", "--query-id", "5", "--from", "nosuch"],
    ["search", "--query-id", "-k", "2", "--show", "nosuch"],
    ["knn", "--target", "nosuch"],
    ["knn", "--target", "source_id"],
    ["outliers", "--class", "nosuch"],
    ["info", "--lineage", "nosuch"],
)


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_every_hint_is_one_that_can_be_typed(words, trained, capsys):
    code, _, err = ask(capsys, *words, "-w", trained)
    assert code != 0
    hint = re.search(r"try: (.*)", err)[1].strip()
    assert hint
    if hint.startswith("mmclip "):
        again, _, still = ask(capsys, *hint.partition("   (")[0].split()[1:], "-w", trained)
        assert again == 0, f"{hint}: {still}"
    elif hint.startswith("--"):
        assert hint.split()[0].rstrip(",") in ask(capsys, words[0], "--help")[1]


def constants(node):
    """Texts in a source, the parts of f-strings joined with X for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return ["".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def hints():
    """(file, text) of every hint of an error, and of every `next:` that is said."""
    found = []
    for file in sorted((Path(mmclip.__file__).parent).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            second = node.args[1:2] if name in ERRORS else []
            said = node.args[:1] if name == "say" else []
            texts = [t for a in second for t in constants(a)]
            texts += [t for a in said for t in constants(a) if t.startswith("next: ")]
            found += [(file.name, t) for t in texts]
    return found


ERRORS = {
    name for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.MmclipError)
}  # fmt: skip


def test_every_hint_in_the_code_names_a_command_and_options_that_exist():
    seen = 0
    for file, text in hints():
        for typed in re.findall(r"mmclip ([a-z-]+)((?: (?:--?[a-z]|[A-Z\d'/.])[^ ,;:()]*)*)", text):
            name, rest = typed
            if name not in COMMANDS:
                continue  # `mmclip makes`: a sentence
            seen += 1
            known = {o for p in application().commands[name].params for o in p.opts} | {"--help"}
            for option in re.findall(r"(?<= )--?[a-z][a-z-]*", rest):
                assert option in known, f"{file}: '{text}': mmclip {name} has no {option}"
    assert seen > 60
