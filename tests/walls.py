"""Who may import whom, as data, and a checker that reads imports from the source: lazy ones and those under
`if TYPE_CHECKING` count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "bgsuper"

#: Each part of the package, and the other parts that it may import.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "key": frozenset({"errors"}),
    "health": frozenset({"key"}),
    "gate": frozenset({"errors", "key"}),
    "ipc": frozenset({"errors", "key"}),
    "store": frozenset({"errors", "key"}),
    "faults": frozenset({"errors", "key", "store"}),
    "worker": frozenset({"errors", "key", "ipc", "store"}),
    "supervisor": frozenset({"errors", "key", "health", "ipc"}),
    "lightning": frozenset({"errors", "key"}),
    "processor": frozenset({"errors", "key", "health", "gate", "supervisor"}),
}
#: What may be imported besides, but inside a function only: nobody pays for it who does not use it.
LAZILY: dict[str, frozenset[str]] = {"worker": frozenset({"faults"})}
#: Parts that put the others together. The package's own `__init__` names all its public homes, lazily.
UNWALLED = frozenset({"__init__", "cli", "node", "torture", "bench"})


class Import(NamedTuple):
    """One import of a module of the package."""

    module: str  #: the importing module, dotted, without the package's name
    line: int
    target: str  #: what is imported, likewise
    lazy: bool  #: inside a function

    def __str__(self) -> str:
        how = "imports, in a function," if self.lazy else "imports"
        return f"{PACKAGE}/{self.module.replace('.', '/')} line {self.line} {how} {PACKAGE}.{self.target}"


def breaches(root: Path) -> list[Import]:
    """Every import under `root`, the package's directory, that the table does not allow."""
    return [
        found
        for path in sorted(root.rglob("*.py"))
        for found in imports(path.relative_to(root), path.read_text())
        if not allowed(found)
    ]


def allowed(found: Import) -> bool:
    """Whether the table allows `found`; a part that the table does not know may import nothing."""
    part, target = found.module.partition(".")[0], found.target.partition(".")[0]
    if part in UNWALLED or part == target:
        return True
    return target in MAY_IMPORT.get(part, ()) or (found.lazy and target in LAZILY.get(part, ()))


def imports(path: Path, source: str) -> Iterator[Import]:
    """The imports of the package's own modules in `source`, a file at `path` below the package's directory."""
    names = path.with_suffix("").parts
    module = ".".join(names if names[-1] != "__init__" or len(names) == 1 else names[:-1])
    package = (PACKAGE, *names[:-1])
    tree = ast.parse(source, str(path))
    lazy = {inner for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        for target in _targets(node, package):
            if target[0] == PACKAGE:
                yield Import(module, getattr(node, "lineno", 0), ".".join(target[1:]) or "__init__", node in lazy)


_BY_NAME = ("import_module", "__import__")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _targets(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The dotted modules that `node` imports, as tuples of names."""
    match node:
        case ast.Import(names):
            yield from (tuple(alias.name.split(".")) for alias in names)
        case ast.ImportFrom(module, names, level):
            base = package[: len(package) - level + 1] if level else ()
            base += tuple(module.split(".")) if module else ()
            # `from . import ipc` names the part only here.
            yield from ((*base, alias.name) for alias in names)
        case ast.Call(ast.Name(name) | ast.Attribute(attr=name), [ast.Constant(str(target)), *_]) if name in _BY_NAME:
            level = len(target) - len(target.lstrip("."))
            base = package[: len(package) - level + 1] if level else ()
            yield base + tuple(target[level:].split("."))
