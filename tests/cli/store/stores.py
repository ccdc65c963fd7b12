"""Stores of every kind to run commands on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bgsuper.ipc.messages import Commit
from bgsuper.key import Key, Seq
from bgsuper.store.schemes import Opening, make_store, open_view
from bgsuper.store.url import parse

#: Every backend, sealed and plain, compressed and not.
KINDS = ("sqlite", "file", "sqlite sealed", "file sealed", "sqlite sealed compressed")

MANAGER, GRAPH = Key("", "", "manager"), Key("", "", "network_graph")
MONITOR, UPDATE = Key("monitors", "", "one"), Key("monitor_updates", "one", "7")
LONG = Key("n" * 120, "s" * 120, "k" * 120)
#: Records and snapshots, one of each odd kind.
RECORDS: Mapping[Key, bytes] = {
    MANAGER: b"the manager's \0 bytes",
    MONITOR: b"monitor" * 5000,
    UPDATE: b"",
    LONG: b"names may be that long",
    **{Key("channels", "", f"{i:03}"): b"%d" % i for i in range(10)},
}
SNAPSHOTS: Mapping[Key, bytes] = {GRAPH: os.urandom(1000) * 300, Key("", "", "scorer"): b"text\nscores\n"}


class Place(NamedTuple):
    """Where the stores of one kind go."""

    directory: Path
    kind: str

    def url(self, name: str = "store", key: str = "key") -> str:
        """Of the store `name`, sealed with `key` if stores of this kind are sealed."""
        scheme, *options = self.kind.split()
        url = f"{scheme}://{self.directory}/{name}"
        if "sealed" in options:
            url += f"?key-file={key_file(self.directory, key)}"
        if "compressed" in options:
            url += "&compress=zstd"
        return url


def key_file(directory: Path, name: str) -> Path:
    """A key of that name, made when it is first asked for."""
    path = directory / f"{name}.key"
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(os.urandom(32))
    return path


def fill(
    url: str,
    records: Mapping[Key, bytes] = RECORDS,
    snapshots: Mapping[Key, bytes] = SNAPSHOTS,
    times: int = 1,
) -> None:
    """Make the store `url`, and commit all of that; open it so many times."""
    for number in range(times):
        store = make_store(parse(url), Opening(os.getpid()))
        opened = store.open()
        if number == 0:
            seq = opened.last_seq
            store.apply([Commit(Seq(seq + 1), seq, tuple(records.items()), ())])
            for key, content in snapshots.items():
                seq += 2
                store.adopt_snapshot(store.write_snapshot(key, Seq(seq), content))
        store.close()


def held(url: str) -> dict[Key, bytes]:
    """All that the store holds."""
    view = open_view(url)
    try:
        return {entry.key: view.read(entry.key) for entry in view.entries()}
    finally:
        view.close()


def files(directory: Path, without: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file below `directory`, byte for byte."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in without
    }
