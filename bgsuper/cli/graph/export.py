"""`bgsuper graph export`: a graph as a file that LDK reads."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ...errors import ConfigError
from ..output import check_free, check_stdout, write_file, write_stdout
from ..store.printing import console
from ..store.reports import size, verdict
from .options import chain_option, source_argument
from .source import load

EPILOG: Final = """\
\b
Examples:
  bgsuper graph export sqlite:///var/lib/node/store graph.bin
  bgsuper graph export snapshot.bin graph.bin         from a rapid gossip sync snapshot
  bgsuper graph export file:store - | sha256sum

The bytes are those of LDK's NetworkGraph (v0.1), sorted: equal graphs give equal files, and LDK reads them by
NetworkGraph::read. From a store's records they lack the time of the last rapid gossip sync, which records do not hold:
whoever goes on with them asks the server for everything once.

Exit status: 0; 1 if there is no graph; 2 if it cannot be read, or FILE cannot be written.
"""

#: Means standard output.
_STDOUT: Final = Path("-")


@click.command(epilog=EPILOG)
@source_argument
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--force", is_flag=True, help="Let FILE take the place of one that is there.")
@chain_option
def export(source: str, file: Path, force: bool, chain: str | None) -> None:
    """Write a graph as LDK writes it.

    The graph in SOURCE goes to the new file FILE, which only its owner can read, or to standard output if that
    is -.
    """
    if file == _STDOUT:
        if force:
            raise ConfigError("--force is about a file, and - is standard output: leave it out")
        check_stdout()
        write_stdout(load(source, chain).graph.pieces())
        return
    # Said before a large graph is read, and looked at again when it is written.
    check_free(file, force)
    graph = load(source, chain).graph
    write_file(graph.pieces(), file, force)
    wrote = f"Wrote {file}: {len(graph.channels):,} channels, {len(graph.nodes):,} nodes, {size(file.stat().st_size)}."
    console().print(verdict(True, wrote, []))
