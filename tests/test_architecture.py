"""Data flows one way: each package imports only those above it; heavy libraries have one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "mmclip"
ORDER = [
    "errors", "plugins", "config", "metrics", "arrays", "sky", "cuts", "ids", "artifacts",
    "results", "papers", "modalities", "readers", "surveys", "datasets", "encoders", "decoders",
    "training", "clip", "vectors", "tasks", "transfer", "provenance", "plots", "report", "cli",
]  # fmt: skip
# A heavy library, and the packages that may name it.
DOORS = {
    "torch": {"encoders", "decoders", "training", "clip", "tasks", "transfer", "provenance"},
    "faiss": {"vectors"},
    "matplotlib": {"plots"},
    "typer": {"cli"},
    "pyvo": {"surveys"},
    "astroquery": {"surveys"},
    "requests": {"surveys"},
    "umap": {"tasks"},
    "lsdb": {"datasets"},
    "dask": {"datasets"},
    "click": set(),
}
FILES = sorted(ROOT.rglob("*.py"))


def imports(file):
    """(line, module) of every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            if node.module == "mmclip":
                yield from ((node.lineno, f"mmclip.{alias.name}") for alias in node.names)


def package(file):
    """First part of a file's place in mmclip."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_one_way(file):
    mine = package(file)
    if mine in ("__init__", "__main__"):
        return
    for line, module in imports(file):
        parts = module.split(".")
        if parts[0] == "mmclip" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= ORDER.index(mine), f"{file}:{line} imports {module}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_heavy_libraries_come_through_their_door(file):
    for line, module in imports(file):
        library = module.split(".")[0]
        if library in DOORS:
            assert package(file) in DOORS[library], f"{file}:{line} imports {library}"


def test_every_package_is_in_the_order():
    found = {package(f) for f in FILES} - {"__init__", "__main__"}
    assert found == set(ORDER)
