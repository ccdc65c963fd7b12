"""`bgsuper store copy`: the same store at another place, in another backend, or under another key."""

from __future__ import annotations

import json
from typing import Final

import click

from ...errors import StoreCorrupt, StoreTampered
from ...store.api import StoreView
from ...store.copying import Counts, copy_values, prove_equal
from ...store.identity import Identity
from ...store.schemes import open_view
from .destination import Destination
from .options import as_json_option, url_argument
from .printing import console
from .progress import progress
from .reports import counted, verdict
from .source import open_source
from .verify import count

EPILOG: Final = """\
\b
Examples:
  bgsuper store copy sqlite:///var/lib/node/store file:///var/lib/node/files
                                                  into LDK's layout; copy it back the same way
  bgsuper store copy sqlite:store 'sqlite:sealed?key-file=/etc/node/key'
                                                  seal it
  bgsuper store copy 'sqlite:store?key-file=old' 'sqlite:rotated?key-file=new'
                                                  another key

DST must be new or an empty directory. Until it is complete, and was read again and compared with SRC, it is called
DST.partial; that is removed if anything goes wrong, or on Ctrl-C. (Only a kill or a power cut leaves it behind.)

Exit status: 0 if the copy is complete and equal; 2 if it could not be made; 130 after Ctrl-C.
"""


@click.command(epilog=EPILOG)
@url_argument("SRC")
@url_argument("DST")
@as_json_option
def copy(src: str, dst: str, as_json: bool) -> int:
    """Copy a store to a new one, and prove it equal.

    SRC and DST may be of different kinds, or sealed with different keys. The copy is the same node's: it keeps the
    store's id and its numbers, and goes on with a greater epoch. Never run a node on both.
    """
    source = open_source(src)
    try:
        destination = Destination.of(dst, src)
        identity = source.identity
        with destination.built():
            counts = _copy(source, destination)
    except (StoreCorrupt, StoreTampered) as error:
        raise type(error)(f"{error} (nothing was copied; `bgsuper store salvage` copies what is whole)") from error
    finally:
        source.close()
    if as_json:
        click.echo(json.dumps(_report(src, dst, identity, counts), indent=2))
    else:
        after = [
            "Both are the same node now: never run it on both, not even one after the other.",
            f"To go on with the copy, start the node with {dst}. From then on the source is",
            "out of date, and a node that starts on it can lose its channels: remove it.",
            "To stay with the source, remove the copy.",
        ]
        console().print(verdict(True, f"Copied and compared: {counted(counts)}.", after))
    return 0


def _copy(source: StoreView, destination: Destination) -> Counts:
    total = count(source)
    with destination.opened() as target, progress("copying", total) as advance:
        counts = copy_values(source, target, advance)
    copied = open_view(destination.partial_url)
    try:
        with progress("comparing", total) as advance:
            prove_equal(source, copied, advance)
    finally:
        copied.close()
    return counts


def _report(src: str, dst: str, identity: Identity, counts: Counts) -> dict[str, object]:
    return {"source": src, "copy": dst, "equal": True, "identity": identity.facts(), **counts._asdict()}
