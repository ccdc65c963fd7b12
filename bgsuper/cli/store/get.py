"""`bgsuper store get`: one value, byte for byte."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from ...errors import ConfigError, NotFound
from ..output import check_free, write_file
from .options import url_argument
from .source import open_source
from .spelling import KEY_HELP, parse_key

EPILOG: Final = f"""\
\b
Examples:
  bgsuper store get sqlite:///var/lib/node/store manager --output manager.bin
  bgsuper store get file:store network_graph | sha256sum
  bgsuper store get file:store monitor_updates/NAME/7 | xxd

{KEY_HELP}

Exit status: 0; 1 if there is no such key; 2 if the store or the value cannot be read, or the output cannot be written.
"""

#: What a terminal takes without doing anything but show it.
_HARMLESS: Final = "\n\t"


@click.command(epilog=EPILOG)
@url_argument("URL")
@click.argument("key")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to this new file, which only its owner can read, instead of standard output.",
)
@click.option("--force", is_flag=True, help="Let --output take the place of a file that is there.")
def get(url: str, key: str, output: Path | None, force: bool) -> int:
    """Write one value to standard output.

    The value of KEY in the store URL is verified first: a damaged value is an error, and nothing is written. Binary
    is not written to a terminal. A value may hold secrets: mind where it goes.
    """
    wanted = parse_key(key)
    if force and output is None:
        raise ConfigError("--force is about the file that --output names: give one, or leave it out")
    if output is not None:
        check_free(output, force)
    view = open_source(url)
    try:
        content = view.read(wanted)
    except NotFound:
        print(f"bgsuper: there is no {wanted} in {url}; `bgsuper store ls` lists what there is", file=sys.stderr)
        return 1
    finally:
        view.close()
    if output is not None:
        write_file([content], output, force)
    else:
        _write_out(content, str(wanted))
    return 0


def _write_out(content: bytes, key: str) -> None:
    if sys.stdout.isatty():
        if not _is_text(content):
            raise ConfigError(
                f"the value of {key} is {len(content):,} bytes of binary: add --output FILE, or pipe it into xxd"
            )
        content += b"\n"
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _is_text(content: bytes) -> bool:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in _HARMLESS for character in text)
