"""The `bgsuper` command.

Rules:
1. An error is one line on standard error: what happened, and what to do. Exit status 2.
2. A command returns its own exit status: 0 is good.
3. Ctrl-C ends with 130.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from .. import __version__
from ..errors import BgsuperError
from .demo.command import demo
from .graph.group import graph
from .store.group import store
from .torture import torture

#: The exit status of whatever a command could not begin, as click's own.
REFUSED = 2
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", prog_name="bgsuper", message="%(prog)s %(version)s")
def bgsuper() -> None:
    """Keep a Lightning node alive: durable state, and a loop that never waits for the disk."""


bgsuper.add_command(demo)
bgsuper.add_command(graph)
bgsuper.add_command(store)
bgsuper.add_command(torture)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (`arguments`, or the process's own); the exit status."""
    try:
        status = bgsuper.main(arguments, prog_name="bgsuper", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return REFUSED
    except click.ClickException as error:
        return _refuse(f"{error.format_message().rstrip('.')}; see {_help_of(error)}")
    except BgsuperError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error}; look at the disk and the permissions there")
    except MemoryError:
        return _refuse("something does not fit into memory; raise the limit, or use a machine with more")
    except (KeyboardInterrupt, click.Abort) as error:
        # click gives its own Abort in the place of a KeyboardInterrupt.
        cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__
        print(": ".join(["bgsuper: interrupted", *map(str, cause.args if cause else ())]), file=sys.stderr)
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _help_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path if context else 'bgsuper'} --help"


def _refuse(text: str) -> int:
    print(f"bgsuper: {' '.join(text.split())}", file=sys.stderr)
    return REFUSED
