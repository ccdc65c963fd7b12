"""``python -m tests.planted [NAME ...]``: sow each bug, run its tests, print who was caught; exit 1 if one survives."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .bugs import BUGS
from .plant import ALL_PASSED, Field, Verdict


def main(names: list[str]) -> int:
    """Without names: all of them."""
    console = Console()
    unknown = set(names) - {bug.name for bug in BUGS}
    if unknown:
        console.print(f"there is no planted bug {', '.join(sorted(unknown))}")
        return 2
    bugs = [bug for bug in BUGS if not names or bug.name in names]
    table = Table("bug", "breaks the rule", "verdict", "by", "s")
    escaped = 0
    with tempfile.TemporaryDirectory(prefix="bgsuper-planted-") as directory:
        field = Field(Path(directory).resolve())
        if not field.uses_the_copy():
            console.print("the tests would import another bgsuper than the copy")
            return 2
        # A test that fails anyway catches nothing.
        status, said = field.run(sorted({test for bug in bugs for test in bug.tests}))
        if status != ALL_PASSED:
            console.print("without any bug, the tests do not pass:", said, sep="\n", markup=False)
            return 2
        for bug in bugs:
            began = time.monotonic()
            verdict, said = field.look(bug)
            took = time.monotonic() - began
            caught = verdict is Verdict.CAUGHT
            by = next((line.split()[1] for line in said.splitlines() if line.startswith("FAILED ")), "")
            colour = "green" if caught else "red"
            by = by.rpartition("/")[2].replace("[", r"\[")
            table.add_row(bug.name, bug.rule, f"[{colour}]{verdict.value}[/]", by, f"{took:.1f}")
            console.print(f"{verdict.value}: {bug.name}", highlight=False)
            if not caught:
                escaped += 1
                console.print(said, markup=False)
    console.print(table)
    console.print(f"{len(bugs) - escaped} of {len(bugs)} caught")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
