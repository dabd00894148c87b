"""Data flows one way: each package imports only those above it; heavy libraries have one door."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "mmclip"
ORDER = [
    "errors", "config", "compiled", "metrics", "arrays", "sky", "cuts", "ids", "artifacts",
    "plugins", "results", "papers", "modalities", "readers", "surveys", "datasets", "encoders",
    "decoders", "training", "clip", "vectors", "tasks", "transfer", "provenance", "plots",
    "report", "cli", "api",
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
    "umap": {"compiled"},
    "numba": {"compiled"},
    "onnx": {"clip"},
    "onnxruntime": {"clip"},
    "huggingface_hub": {"artifacts"},
    "lsdb": {"datasets"},
    "specutils": {"readers"},
    "dask": {"datasets"},
    "click": set(),
}
FILES = sorted(ROOT.rglob("*.py"))
TREES = {file: ast.parse(file.read_text()) for file in FILES}
NODES = {file: list(ast.walk(tree)) for file, tree in TREES.items()}


def imports(file):
    """(line, module) of every import of a file, those inside functions too."""
    for node in NODES[file]:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            if node.module == "mmclip":
                yield from ((node.lineno, f"mmclip.{alias.name}") for alias in node.names)


def module_name(file):
    """`mmclip.datasets.join` of mmclip/datasets/join.py; a package by its folder."""
    parts = ("mmclip", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def own_imports(node):
    """Modules of mmclip that one import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in MODULES)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mmclip":
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in MODULES else node.module


def edges(file):
    """(line, module, inside a function) of a file's imports of mmclip; not those for types only."""

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            yield from ((child.lineno, module, inside) for module in own_imports(child))
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield from walk(child, inside or isinstance(child, ast.FunctionDef))

    return list(walk(TREES[file], False))


def private(name):
    """True for `_name`; `__init__` and the like are no one's secret."""
    return name.startswith("_") and not name.startswith("__")


def package(file):
    """First part of a file's place in mmclip."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def test_imports_point_one_way():
    against = []
    for file in FILES:
        mine = package(file)
        if mine in ("__init__", "__main__"):
            continue
        for line, module in imports(file):
            parts = module.split(".")
            ours = parts[0] == "mmclip" and len(parts) > 1 and parts[1] in ORDER
            if ours and ORDER.index(parts[1]) > ORDER.index(mine):
                against.append(f"{file}:{line} imports {module}")
    assert not against


def test_heavy_libraries_come_through_their_door():
    past = [
        f"{file}:{line} imports {module}"
        for file in FILES
        for line, module in imports(file)
        if package(file) not in DOORS.get(module.split(".")[0], {package(file)})
    ]
    assert not past


def test_every_package_is_in_the_order():
    found = {package(f) for f in FILES} - {"__init__", "__main__"}
    assert found == set(ORDER)


def reaching(file):
    """Where a file names what is private to another module."""
    modules = set()
    for node in NODES[file]:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mmclip":
            for alias in node.names:
                if private(alias.name):
                    yield f"{file}:{node.lineno} imports {alias.name}"
                if f"{node.module}.{alias.name}" in MODULES:
                    modules.add(alias.asname or alias.name)
    for node in NODES[file]:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            crossing = node.value.id in modules and private(node.attr)
            if crossing:
                yield f"{file}:{node.lineno} reaches into {ast.unparse(node)}"


def test_private_names_stay_in_their_module():
    assert not [found for file in FILES for found in reaching(file)]


def test_modules_do_not_import_each_other_in_a_circle():
    ahead = {name: {m for _, m, _ in edges(file)} for name, file in MODULES.items()}
    ahead.pop("mmclip")  # the public interface, which imports what it is asked for
    ahead = {name: needs & set(ahead) for name, needs in ahead.items()}
    while ready := [name for name, needs in ahead.items() if not needs]:
        for name in ready:
            del ahead[name]
        ahead = {name: needs - set(ready) for name, needs in ahead.items()}
    # Who only imports a circle is no part of it.
    while outside := set(ahead) - set().union(*ahead.values()):
        ahead = {name: needs for name, needs in ahead.items() if name not in outside}
    assert not ahead


def test_only_commands_import_mmclip_inside_functions():
    """A command's `--help` must not wait for torch; everything else says above what it needs."""
    hidden = [
        f"{file}:{line} imports {module}"
        for file in FILES
        if package(file) not in ("cli", "__init__", "__main__")
        for line, module, inside in edges(file)
        if inside
    ]
    assert not hidden
