"""`bgsuper store backup`: a copy of a store in use, through the worker that has it."""

from __future__ import annotations

import json
import os
import time
from typing import Final

import click

from ...store.backup.online import begin_backup
from ...store.schemes import Opening, make_store, open_view
from ...store.url import parse
from ...supervisor import BackupReport
from . import live
from .options import as_json_option, url_argument
from .printing import console
from .reports import size, verdict

EPILOG: Final = """\
\b
Examples:
  bgsuper store backup sqlite:///var/lib/node/store /mnt/backup/2026-11-23
  bgsuper store backup sqlite:store backup && bgsuper store verify sqlite:backup

DEST must be new or an empty directory, outside of the store. Until it is complete and durable it is called
DEST.partial; that is removed if anything goes wrong, or on Ctrl-C. What a killed worker leaves of it is removed by the
next backup to the same DEST.

An old backup is dangerous: a node that goes on from it may publish a state that was revoked since, and lose its
channels for that. Give the node's URL ?high-water=PATH, outside of the store, so that it notices.

Exit status: 0 if the backup is complete; 2 if it could not be made; 130 after Ctrl-C.
"""

#: How soon a backup that waits for its disk is looked at again.
_LOOK_S: Final = 0.01
#: How long Ctrl-C waits for what there is to be removed.
_REMOVAL_S: Final = 30.0


@click.command(epilog=EPILOG)
@url_argument("URL")
@click.argument("dest", metavar="DEST")
@as_json_option
def backup(url: str, dest: str, as_json: bool) -> int:
    """Back a store up to the directory DEST, while a node uses it.

    The node's own worker makes the backup, beside its commits, which go on. Without a running node this command opens
    the store itself, as a worker would: the store's epoch grows by one, and what a crash left is put right. DEST is a
    complete store, as it was after some commit: sealed values stay sealed, with the same key. Only sqlite: stores can
    be backed up so; stop the node and use `bgsuper store copy` for others.
    """
    directory = os.path.abspath(dest)
    report = live.backup(url, directory)
    running = report is not None
    if report is None:
        report = _back_up_closed(url, directory)
    if as_json:
        made = {"source": url, "backup": directory, "running": running, **report._asdict()}
        click.echo(json.dumps(made, indent=2))
    else:
        title = f"Backed up to {directory}: commit {report.last_commit:,}, {size(report.size)}, {report.seconds:.1f} s."
        console().print(verdict(True, title, ["bgsuper store verify reads it again."]))
    return 0


def _back_up_closed(url: str, directory: str) -> BackupReport:
    """A backup of a store that nobody has open; it is open for so long."""
    # An open makes what is not there: this refuses it.
    open_view(url).close()
    began = time.monotonic()
    store = make_store(parse(url), Opening(os.getpid(), lock_timeout_s=0.0))
    store.open()
    try:
        under_way = begin_backup(store, directory)
        try:
            while (copied := under_way.step()) is None:
                if not under_way.ready:
                    time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            under_way.abort()
            under_way.join(_REMOVAL_S)
            raise
    finally:
        store.close()
    return BackupReport(*copied, time.monotonic() - began)
