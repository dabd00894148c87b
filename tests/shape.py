"""Size and shape of the package as a Markdown table: `python -m tests.shape [--against REV]`.

Only the syntax tree is read, so any revision can be measured from any checkout.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[1]
PACKAGE = "mmclip"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ALIKE = 4  # statements from which two equal functions are called a duplicate


@dataclass(frozen=True)
class Module:
    """A file of the package: its dotted name, its text and its syntax tree."""

    name: str
    text: str
    tree: ast.Module
    is_package: bool

    @property
    def package(self) -> str:
        """The dotted name of the folder that the file is in."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


def modules_now(top: Path = TOP) -> list[Module]:
    """Every module of the package in the work tree."""
    paths = sorted((top / PACKAGE).rglob("*.py"))
    return [_module(p.relative_to(top).as_posix(), p.read_text()) for p in paths]


def modules_at(revision: str, top: Path = TOP) -> list[Module]:
    """Every module of the package as committed in a revision."""
    names = _git(top, "ls-tree", "-r", "--name-only", revision, "--", PACKAGE).splitlines()
    paths = sorted(n for n in names if n.endswith(".py"))
    return [_module(p, _git(top, "show", f"{revision}:{p}")) for p in paths]


def _git(top: Path, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(top), *command], check=True, capture_output=True, text=True
    ).stdout


def _module(path: str, text: str) -> Module:
    parts = path.removesuffix(".py").split("/")
    is_package = parts[-1] == "__init__"
    return Module(".".join(parts[:-1] if is_package else parts), text, ast.parse(text), is_package)


@dataclass(frozen=True)
class Import:
    """One name that a module takes from another of the package."""

    source: Module
    target: str
    line: int
    hidden: bool
    """Inside a function."""


def imports(module: Module) -> Iterator[Import]:
    """What a module imports of its own package; imports for type checkers alone are left out."""

    def walk(node: ast.AST, hidden: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                yield from walk(child, hidden)
            return
        for target in _targets(node, module):
            if target.split(".")[0] == PACKAGE:
                yield Import(module, target, getattr(node, "lineno", 0), hidden)
        inside = hidden or isinstance(node, FUNCTIONS)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(module.tree, False)


def _targets(node: ast.AST, module: Module) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = module.package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


def _file(target: str, known: set[str]) -> str:
    # The module that a dotted name leads to: itself, or the module that defines it.
    while target not in known and "." in target:
        target = target.rpartition(".")[0]
    return target


def crossings(module: Module, known: set[str]) -> list[tuple[int, str]]:
    """(line, name) where a module uses a private name of another module.

    A module `_name` is private to its folder, a name `_name` to its module; names such as
    `__version__` are public.
    """
    found: list[tuple[int, str]] = []
    for one in imports(module):
        parts = one.target.split(".")
        home = _file(one.target, known)
        for place, part in enumerate(parts):
            inside = ".".join(parts[:place])
            if _private(part) and module.name != home and not _within(module, inside, home):
                found.append((one.line, one.target))
    own = {name: target for name, target in _names(module).items() if target in known}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and _private(node.attr):
            home = own.get(ast.unparse(node.value))
            if home is not None:
                found.append((node.lineno, f"{home}.{node.attr}"))
    return found


def _names(module: Module) -> dict[str, str]:
    # What each imported name of a module stands for.
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _within(module: Module, inside: str, home: str) -> bool:
    # A private module may be used in its own folder; a private name only in its own module.
    last_is_module = home.rpartition(".")[2].startswith("_")
    return last_is_module and (module.name == inside or module.name.startswith(inside + "."))


def cycles(modules: list[Module]) -> list[list[str]]:
    """Groups of modules that import one another, inside functions too (Tarjan's components)."""
    known = {m.name for m in modules}
    edges = {m.name: {_file(i.target, known) for i in imports(m)} - {m.name} for m in modules}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in sorted(edges[name] & known):
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(known):
        if name not in order:
            visit(name)
    return found


def duplicates(modules: list[Module]) -> int:
    """Functions of four statements or more whose body is that of another function."""
    seen: Counter[str] = Counter()
    for node in _functions(modules):
        body = node.body
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]
        if sum(isinstance(n, ast.stmt) for b in body for n in ast.walk(b)) >= ALIKE:
            seen["".join(ast.dump(b) for b in body)] += 1
    return sum(n - 1 for n in seen.values())


def _functions(modules: list[Module]) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for m in modules for n in ast.walk(m.tree) if isinstance(n, FUNCTIONS)]


def _spread(lengths: list[int]) -> str:
    # Median, the length that nine in ten stay within, and the longest.
    ordered = sorted(lengths)
    return f"{ordered[len(ordered) // 2]} / {ordered[int(0.9 * len(ordered))]} / {ordered[-1]}"


def _open_dictionary(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and ast.unparse(node) == "dict[str, Any]"


def measure(modules: list[Module]) -> dict[str, str]:
    """The rows of the table: what is counted, and the count."""
    known = {m.name for m in modules}
    nodes = [n for m in modules for n in ast.walk(m.tree)]
    hidden = [i for m in modules for i in imports(m) if i.hidden]
    in_cli = sum(i.source.name.startswith(f"{PACKAGE}.cli") for i in hidden)
    functions = [n.end_lineno - n.lineno + 1 for n in _functions(modules) if n.end_lineno]
    lines = [m.text.count("\n") for m in modules]
    groups = cycles(modules)
    return {
        "lines of the package": f"{sum(lines):,}",
        "files": str(len(modules)),
        "lines a file: median / 90 % / longest": _spread(lines),
        "functions": f"{len(functions):,}",
        "lines a function: median / 90 % / longest": _spread(functions),
        "`Any` in the code": str(sum(isinstance(n, ast.Name) and n.id == "Any" for n in nodes)),
        "`dict[str, Any]`": str(sum(map(_open_dictionary, nodes))),
        "own imports inside functions, in `cli`": str(in_cli),
        "own imports inside functions, elsewhere": str(len(hidden) - in_cli),
        "private names used from elsewhere": str(sum(len(crossings(m, known)) for m in modules)),
        "import cycles (modules in them)": f"{len(groups)} ({sum(map(len, groups))})",
        "functions that repeat another": str(duplicates(modules)),
        "`fmt: skip`": str(sum(m.text.count("fmt: skip") for m in modules)),
    }


def table(columns: dict[str, dict[str, str]]) -> str:
    """Measurements side by side, as Markdown."""
    head = ["", *columns]
    rows = [[what, *(c[what] for c in columns.values())] for what in next(iter(columns.values()))]
    lines = [head, ["---"] + ["--:"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def details(modules: list[Module]) -> Iterator[str]:
    """Where each thing to mend is: cycles, crossings, imports inside functions outside `cli`."""
    known = {m.name for m in modules}
    for group in cycles(modules):
        yield "cycle: " + " <-> ".join(group)
    for m in modules:
        for line, name in crossings(m, known):
            yield f"private: {m.name}:{line} {name}"
        for one in imports(m):
            if one.hidden and not m.name.startswith(f"{PACKAGE}.cli"):
                yield f"hidden: {m.name}:{one.line} {one.target}"
        for node in ast.walk(m.tree):
            if _open_dictionary(node):
                yield f"dict[str, Any]: {m.name}:{getattr(node, 'lineno', 0)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", metavar="REV", help="a revision to stand beside")
    parser.add_argument("--details", action="store_true", help="name each place to mend")
    asked = parser.parse_args()
    columns = {asked.against: measure(modules_at(asked.against))} if asked.against else {}
    now = modules_now()
    print(table(columns | {"now": measure(now)}))
    if asked.details:
        print(*details(now), sep="\n")


if __name__ == "__main__":
    main()
