"""Version, licence, hosted checks and decisions agree with one another."""

import re
import tomllib
from pathlib import Path

from mmclip import __version__

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())


def test_the_version_is_the_newest_of_the_changelog():
    newest = re.search(r"^## (\S+)(.*)$", (TOP / "docs/changelog.md").read_text(), re.MULTILINE)
    release, _, development = __version__.partition(".dev")
    assert release == newest[1].strip("[]")
    assert bool(development) == ("not released" in newest[2])


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mmclip.__version__"}
    assert not re.search(r"^version:", (TOP / "CITATION.cff").read_text(), re.MULTILINE)


def test_the_licence_is_in_the_package():
    assert PROJECT["project"]["license"] == "MIT"
    for name in PROJECT["project"]["license-files"]:
        assert (TOP / name).read_text().startswith("MIT License")


def test_the_commit_hook_formats_as_the_pinned_ruff_does():
    hook = re.search(
        r"ruff-pre-commit\s+rev: v(\S+)", (TOP / ".pre-commit-config.yaml").read_text()
    )
    assert f"ruff=={hook[1]}" in (TOP / "constraints-cpu.txt").read_text().split()


def test_the_hosted_checks_run_every_python_the_package_names():
    workflow = (TOP / ".github/workflows/ci.yml").read_text()
    checked = re.search(r"python: \[(.*)\]", workflow)[1].replace('"', "").split(", ")
    marks = (c.rpartition(":: ")[2] for c in PROJECT["project"]["classifiers"])
    assert checked == [m for m in marks if re.fullmatch(r"3\.\d+", m)]
    assert "run: .ci/run" in workflow


def test_every_decision_is_in_the_index():
    folder = TOP / "docs/decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(p.name for p in folder.glob("[0-9]*.md"))


def test_every_data_file_is_in_the_wheel():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    listed = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in (TOP / package.replace(".", "/")).glob(pattern)
    }
    files = {p for p in (TOP / "mmclip").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {p for p in files if p.suffix not in (".py", ".pyc")} <= listed


def test_the_recipe_needs_what_the_package_needs():
    recipe = (TOP / "recipe/meta.yaml").read_text()
    release = (TOP / "mmclip/__init__.py").read_text().partition('__version__ = "')[2].split(".dev")
    assert f'version = "{release[0]}"' in recipe
    conda = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    for needed in PROJECT["project"]["dependencies"]:
        name, asked = re.match(r"([\w.-]+)(.*)", needed).groups()
        assert f"    - {conda.get(name, name)} {asked}\n" in recipe
