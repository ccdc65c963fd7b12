"""The planted bugs are still to be planted: none of them rots. Whether they are caught, ``python -m tests.planted``
tells; it takes a minute or two."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .bugs import BUGS
from .plant import PROJECT, Bug, Edit, Field

each_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


def functions(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


@each_bug
def test_its_patch_applies_to_todays_source(bug: Bug) -> None:
    """The old text is there exactly once, and what comes out is Python that differs."""
    for edit in bug.edits:
        patched = edit.apply(PROJECT)
        assert ast.dump(ast.parse(patched)) != ast.dump(ast.parse((PROJECT / edit.file).read_text()))


@each_bug
def test_the_tests_that_catch_it_are_there(bug: Bug) -> None:
    """By their names, which somebody may change."""
    assert bug.tests
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert (PROJECT / file).is_file()
        assert not name or name.partition("[")[0] in functions(PROJECT / file)


def test_there_are_enough_and_each_has_its_rule() -> None:
    """Names are how they are asked for."""
    assert len(BUGS) >= 14
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert all(bug.rule and bug.edits for bug in BUGS)


def test_a_patch_that_does_not_apply_is_told() -> None:
    """Neither what is gone nor what is there twice is patched."""
    for old in ("no such line", "import"):
        with pytest.raises(ValueError, match="expected once"):
            Edit("bgsuper/health.py", old, "").apply(PROJECT)


def test_what_was_sown_is_weeded_out_again(tmp_path: Path) -> None:
    """One bug at a time."""
    field, bug = Field.__new__(Field), BUGS[0]
    field.directory = tmp_path
    for edit in bug.edits:
        (tmp_path / edit.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / edit.file).write_text((PROJECT / edit.file).read_text())
    with field.sown(bug):
        assert any((tmp_path / edit.file).read_text() != (PROJECT / edit.file).read_text() for edit in bug.edits)
    assert all((tmp_path / edit.file).read_text() == (PROJECT / edit.file).read_text() for edit in bug.edits)
