"""The walls between the parts of the package: in the source, and in the modules that a started worker holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bgsuper

from .walls import LAZILY, MAY_IMPORT, UNWALLED, Import, allowed, breaches, imports

ROOT = Path(bgsuper.__file__).parent

#: What no worker may hold: the idle one stays under 30 MiB and has no business with the node.
NOT_IN_A_WORKER = {
    *("asyncio", "psutil", "logging", "multiprocessing", "subprocess", "concurrent.futures"),
    *("coincurve", "cryptography", "click", "rich"),
    *(
        f"bgsuper.{part}"
        for part in ("supervisor", "processor", "lightning", "gate", "health", "faults", "cli", "node")
    ),
}
#: What `import bgsuper` alone may not bring in.
NOT_IN_THE_PACKAGE = NOT_IN_A_WORKER | {"apsw", "msgpack", *(f"bgsuper.{part}" for part in ("errors", "ipc", "store"))}


def modules_after(code: str) -> set[str]:
    """What `sys.modules` gains when a fresh interpreter runs `code`, beside what its own start needed."""
    probe = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    return set(subprocess.check_output([sys.executable, "-c", probe], text=True, timeout=60).split())


# -- the source -------------------------------------------------------------------------------------------------------


def test_no_import_breaks_a_wall() -> None:
    """DESIGN.md, "The house": who may import whom, for every file there is."""
    assert [str(found) for found in breaches(ROOT)] == []


def test_every_part_has_its_walls() -> None:
    """A new part must be put in the table, or it is free of all rules by oversight."""
    parts = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts <= MAY_IMPORT.keys() | UNWALLED


def test_the_table_has_no_cycle() -> None:
    """Parts form layers: none can reach itself through others."""
    reached = {part: set(MAY_IMPORT[part] | LAZILY.get(part, frozenset())) for part in MAY_IMPORT}
    for _ in MAY_IMPORT:
        for targets in reached.values():
            targets |= {further for target in targets for further in reached.get(target, ())}
    assert all(part not in targets for part, targets in reached.items())
    assert all("lightning" not in reached[part] for part in ("worker", "supervisor", "processor", "store", "gate"))


def targets(path: str, source: str) -> list[tuple[str, bool]]:
    return [(found.target, found.lazy) for found in imports(Path(path), source)]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("import bgsuper.ipc.frames", "ipc.frames"),
        ("import os, bgsuper.gate as g", "gate"),
        ("from bgsuper.ipc import frames", "ipc.frames"),
        ("from bgsuper import gate", "gate"),
        ("from .. import gate", "gate"),
        ("from ..ipc.frames import Kind", "ipc.frames.Kind"),
        ("from . import sqlite", "store.sqlite"),
        ("from .api import Store", "store.api.Store"),
        ("import bgsuper", "__init__"),
        ("if TYPE_CHECKING:\n    from ..gate import Gate", "gate.Gate"),
        ("try:\n    from ..gate import Gate\nexcept ImportError:\n    pass", "gate.Gate"),
        ("class C:\n    from ..gate import Gate", "gate.Gate"),
        ("import_module('bgsuper.gate')", "gate"),
        ("importlib.import_module('..gate', __package__)", "gate"),
        ("__import__('bgsuper.gate')", "gate"),
    ],
)
def test_every_way_to_import_is_seen(source: str, target: str) -> None:
    """The checker itself: absolute, relative, conditional, by name."""
    assert targets("store/files.py", source) == [(target, False)]


@pytest.mark.parametrize(
    "source", ["import os", "from os import path", "import bgsupersonic", "x = 'import bgsuper.gate'"]
)
def test_other_imports_are_nobodys_business(source: str) -> None:
    """Only the package's own modules count, and only code."""
    assert targets("store/files.py", source) == []


@pytest.mark.parametrize(
    "source", ["def f():\n    from ..faults import vfs", "async def f():\n    from ..faults import vfs"]
)
def test_an_import_inside_a_function_is_lazy(source: str) -> None:
    """What the worker may import lazily, it may not import at its start."""
    assert targets("worker/writer.py", source) == [("faults.vfs", True)]


def test_a_package_counts_as_itself() -> None:
    """In an `__init__.py`, one dot is the package that it makes."""
    assert targets("store/__init__.py", "from . import api") == [("store.api", False)]
    assert targets("store/__init__.py", "from ..ipc import frames") == [("ipc.frames", False)]
    assert targets("__init__.py", "from .ipc import frames") == [("ipc.frames", False)]


@pytest.mark.parametrize(
    ("module", "target", "lazy", "allows"),
    [
        ("worker.writer", "ipc.frames", False, True),
        ("worker.writer", "faults.vfs", True, True),
        ("worker.writer", "faults.vfs", False, False),
        ("worker.writer", "health", True, False),
        ("worker.writer", "__init__", False, False),
        ("supervisor.core", "store.api", False, False),
        ("supervisor.core", "health", False, True),
        ("processor.background", "lightning.ln.channel", True, False),
        ("processor.background", "supervisor", False, True),
        ("lightning.ln.channel", "gate", False, False),
        ("ipc.frames", "store.api", False, False),
        ("cli.main", "lightning.keys", False, True),
        ("unheard_of.module", "errors", False, False),
    ],
)
def test_the_table_is_read_as_meant(module: str, target: str, lazy: bool, allows: bool) -> None:
    """Spot checks in both directions; a part without an entry may import nothing."""
    assert allowed(Import(module, 1, target, lazy)) is allows


def test_a_planted_breach_is_found(tmp_path: Path) -> None:
    """The whole check on a package with one wrong import, told by file and line."""
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "errors.py").write_text("")
    (tmp_path / "supervisor" / "core.py").write_text(
        "from ..errors import E\n\ndef f():\n    from ..store import api\n"
    )
    [found] = breaches(tmp_path)
    assert str(found) == "bgsuper/supervisor/core line 4 imports, in a function, bgsuper.store.api"


# -- what is loaded ---------------------------------------------------------------------------------------------------


def test_a_worker_starts_small() -> None:
    """All that `python -m bgsuper.worker` imports before it is told what to do."""
    loaded = modules_after("import bgsuper.worker.__main__")
    assert "bgsuper.ipc.frames" in loaded
    assert loaded & NOT_IN_A_WORKER == set()


@pytest.mark.parametrize("path", sorted((ROOT / "store").glob("*.py")), ids=lambda path: path.stem)
def test_no_store_makes_a_worker_large(path: Path) -> None:
    """Nor what it imports once it is told which store to open."""
    code = f"import bgsuper.worker.__main__, bgsuper.store.{path.stem}"
    assert modules_after(code) & NOT_IN_A_WORKER - {"cryptography"} == set()


def test_the_package_alone_loads_nothing() -> None:
    """The public names are loaded when first used."""
    loaded = modules_after("import bgsuper")
    assert "bgsuper" in loaded
    assert loaded & NOT_IN_THE_PACKAGE == set()


# -- the public names -------------------------------------------------------------------------------------------------


def test_about_twenty_public_names() -> None:
    """A reader of the package's `__init__` should count about twenty names, not forty."""
    assert 15 <= len(bgsuper.__all__) <= 25
    assert list(bgsuper.__all__) == sorted(set(bgsuper.__all__))


@pytest.mark.parametrize("name", bgsuper.__all__)
def test_a_public_name_resolves(name: str) -> None:
    """Each has a home that defines it, and a docstring; `dir()` tells it."""
    value = getattr(bgsuper, name)
    assert name in dir(bgsuper)
    assert value.__doc__ or name == "Seq"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module: `hasattr` and `from bgsuper import x` depend on it."""
    assert not hasattr(bgsuper, "nothing_of_that_name")
