"""A store whose files are damaged: what opening it may do.

Rules, for any damage:
1. Opening succeeds, or raises one `StoreError` that is not `NotFound`: nothing else, whatever the bytes.
2. A refusal changes nothing: the files are byte for byte what they were. (The lock file apart: it names who tried.)
3. What an open store hands out is a prefix of what was committed: the state as of some commit, never one that was
   checkpointed away. A value that cannot be read is `StoreCorrupt`; one that is there is never `NotFound`, and never
   missing from its namespace.
4. If anything but the newest transaction of the WAL is damaged, no acknowledged commit is missing from that state.
5. The numbers that it claims are those of that state, and it says that it is the store that it was.

Not promised: that a WAL which was cut or is gone, or damaged in its newest transaction, is told from a crash before
the sync (only whoever remembers the newest number can: the running host does); that files of two stores, or of two
times, are told apart.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import apsw

from ...errors import NotFound, StoreCorrupt, StoreError
from ...ipc.messages import Commit
from ...key import MANAGER, NETWORK_GRAPH, Key, Seq
from ...store.api import Opened
from ...store.sqlite import SQLiteStore

DATABASE: Final = "bgsuper.sqlite3"
WAL: Final = f"{DATABASE}-wal"
LOCK: Final = "lock"

_UNSYNCED: Final = "bgsuper-unsynced"

State = Mapping[Key, bytes]
Files = Mapping[str, bytes]


class Original(NamedTuple):
    """A store as a killed worker left it, and every state that it has been in."""

    files: Files  #: by path within the directory
    history: Mapping[int, State]  #: by the newest number, those of snapshots included
    checkpointed: int  #: the newest number that is in the database itself
    newest: int
    opened: Opened  #: when it was made

    @property
    def snapshot(self) -> str:
        """The path of the snapshot's file."""
        return next(path for path in self.files if path.startswith("snapshots/"))


class Verdict(NamedTuple):
    """What became of an attempt to open."""

    refused: StoreError | None
    newest: int = 0  #: the number of the state that was found
    unreadable: frozenset[Key] = frozenset()  #: keys that were `StoreCorrupt`


class Broken(AssertionError):
    """A rule of this module does not hold."""


def build(directory: Path, random: Random, *, with_wal: bool = True) -> Original:
    """Make a store below `directory`, some of it checkpointed, the rest in the WAL, and kill its worker."""
    history: dict[int, State] = {0: {}}
    store = SQLiteStore(directory / "made", host_pid=os.getpid())
    opened = store.open()

    def put(puts: State, *removes: Key) -> None:
        seq = len(history)
        store.apply([Commit(Seq(seq), Seq(seq - 1), tuple(puts.items()), removes)])
        history[seq] = {key: value for key, value in {**history[seq - 1], **puts}.items() if key not in removes}

    put({key(number): random.randbytes(250) for number in range(24)} | {MANAGER: random.randbytes(6000)})
    put({key(3): random.randbytes(90), key(40): b""}, key(4), key(5))
    seq = len(history)
    content = random.randbytes(2000)
    store.adopt_snapshot(store.write_snapshot(NETWORK_GRAPH, Seq(seq), content))
    history[seq] = {**history[seq - 1], NETWORK_GRAPH: content}
    if with_wal:
        _settle(store)
    checkpointed = len(history) - 1
    put({key(6): random.randbytes(300), MANAGER: random.randbytes(5000)})
    put({key(7): random.randbytes(30)}, key(8))
    put({key(41): random.randbytes(300), MANAGER: random.randbytes(5000)}, key(40))
    if not with_wal:
        _settle(store)
        checkpointed = len(history) - 1
    files = read_tree(directory / "made")
    store.close()
    shutil.rmtree(directory / "made")
    if not with_wal:
        files[WAL] = b""
    return Original(files, history, checkpointed, len(history) - 1, opened)


def key(number: int) -> Key:
    return Key("channels", "", f"k{number:02}")


def read_tree(directory: Path) -> dict[str, bytes]:
    """Every file below `directory`."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def write_tree(directory: Path, files: Files) -> None:
    """Make `directory` hold these files and no other."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "snapshots").mkdir(parents=True)
    for path, content in files.items():
        (directory / path).write_bytes(content)


def judge(directory: Path, original: Original) -> Verdict:
    """Open what lies in `directory`, read all of it, and raise `Broken` if a rule does not hold."""
    before = _without_lock(directory)
    store = SQLiteStore(directory, host_pid=os.getpid(), lock_timeout_s=0, check=True, vfs=_UNSYNCED, fsync=_no_sync)
    try:
        claimed = store.open()
    except StoreError as error:
        if isinstance(error, NotFound) or type(error) is StoreError:
            raise Broken(f"refused without a reason that can be acted on: {error!r}") from error
        after = _without_lock(directory)
        if after != before:
            changed = sorted(path for path in before | after if before.get(path) != after.get(path))
            raise Broken(f"refused ({error}), and yet changed: {', '.join(changed)}") from error
        return Verdict(error)
    except Exception as error:
        raise Broken(f"open() raised {error!r}") from error
    try:
        verdict = _read_all(store, original)
        # The newest number of every history is a commit's.
        if (claimed.store_id, claimed.last_seq) != (original.opened.store_id, verdict.newest):
            raise Broken(f"it says that it is {claimed}, but it holds the state after {verdict.newest}")
        if claimed.epoch <= original.opened.epoch:
            raise Broken(f"its epoch is {claimed.epoch}, but there was one with {original.opened.epoch}")
        return verdict
    except StoreError:
        raise
    except Exception as error:
        raise error if isinstance(error, Broken) else Broken(f"reading raised {error!r}") from error
    finally:
        store.close()


def _read_all(store: SQLiteStore, original: Original) -> Verdict:
    found: dict[Key, bytes] = {}
    unreadable: set[Key] = set()
    for wanted in frozenset[Key]().union(*original.history.values()):
        try:
            found[wanted] = store.read(wanted)
        except StoreCorrupt:
            unreadable.add(wanted)
        except NotFound:
            pass
    for newest in range(original.newest, original.checkpointed - 1, -1):
        state = original.history[newest]
        if found == {key: value for key, value in state.items() if key not in unreadable}:
            break
    else:
        raise Broken(f"what can be read is the state after no commit; {len(unreadable)} keys are unreadable")
    try:
        page = store.scan("channels", "", "", 1 << 30)
    except StoreCorrupt:
        return Verdict(None, newest, frozenset(unreadable | {Key("channels", "", "*")}))
    if dict(page) != {key: value for key, value in state.items() if key.primary == "channels"}:
        raise Broken("the namespace lists something else than its keys read")
    return Verdict(None, newest, frozenset(unreadable))


def _without_lock(directory: Path) -> dict[str, bytes | None]:
    tree: dict[str, bytes | None] = {str(path): None for path in directory.rglob("*") if path.is_dir()}
    return tree | {path: content for path, content in read_tree(directory).items() if path != LOCK}


def _settle(store: SQLiteStore) -> None:
    while store.has_idle_work:
        store.idle()


def _no_sync(_fd: int) -> None:
    """Nothing here outlives the machine."""


class _UnsyncedVFS(apsw.VFS):
    """SQLite's way to the disk without the syncs, which are nine tenths of the time."""

    def __init__(self) -> None:
        super().__init__(_UNSYNCED, "unix-excl")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _UnsyncedFile("unix-excl", name, flags)


class _UnsyncedFile(apsw.VFSFile):
    def xSync(self, flags: int) -> None:
        """Not needed: see above."""


_vfs = _UnsyncedVFS()


def flips(content: bytes, places: Iterator[int], random: Random) -> Iterator[tuple[int, bytes]]:
    """`content` with one bit flipped at each of `places`."""
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.randrange(8)
        yield place, bytes(damaged)
