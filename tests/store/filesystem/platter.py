"""A simulated disk under a real directory: what each system call of a store does to it, a crash before any one of them,
and what may be left when the power goes.

The rules are those of file systems with a journal, and no more:
1. A file's content is durable as of its last sync, each 512-byte sector and the attributes for themselves; what was not
   synced may be there or not. A file never synced is empty.
2. Names are durable as of their directory's last sync. Of the changes since, any first part may be there: a rename is
   one change. Directories are independent of each other.
3. `syncfs` is a sync of everything, or nothing at all that succeeds: which, is the file system's way.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

from bgsuper.store.filesystem import syncing

ATTRIBUTE: Final = "user.bgsuper"
#: File systems whose syncfs does nothing.
IDLE_SYNCFS: Final = ("fuse", "fuse.bindfs")
SECTOR: Final = 512

#: The system calls that change something, and where in their arguments the paths are.
CHANGES: Final = (
    "write",
    "pwrite",
    "rename",
    "unlink",
    "mkdir",
    "chmod",
    "fchmod",
    "setxattr",
    "truncate",
    "ftruncate",
)

Names = dict[str, int]
File = tuple[bytes, bytes | None]


class Crash(BaseException):
    """The process is dead: nothing that it does from now on happens."""


class Platter:
    """The disk under `root`, with a file system of the type `kind`. What is there at the start is durable."""

    def __init__(self, root: str | os.PathLike[str], kind: str = "ext4") -> None:
        self._root = os.path.abspath(root)
        self.kind = kind
        self._held: dict[int, int] = {}
        self._files: dict[int, File] = {}
        #: Of each directory, what is durable and then each state since.
        self._names: dict[int, list[Names]] = {}
        self.steps = 0
        self.fault: Callable[[int, str], None] = lambda step, call: None
        self.sync_all()

    def close(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    # -- system calls ---------------------------------------------------------------------------------------------

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Each change and each sync is a step: `fault` is called with its number and name first, and may raise."""
        with ExitStack() as stack:
            for name in CHANGES:
                stack.enter_context(mock.patch.object(os, name, self._watched(name, getattr(os, name))))
            stack.enter_context(mock.patch.object(os, "open", self._watched_open(os.open)))
            stack.enter_context(mock.patch.object(syncing, "file_system_type", return_value=self.kind))
            yield

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            self._step(name)
            result = call(*args, **kwargs)
            if name in ("rename", "unlink", "mkdir"):
                self._changed(args[0])
            return result

        return change

    def _watched_open(self, call: Callable[..., int]) -> Callable[..., int]:
        def change(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if not flags & os.O_CREAT:
                return call(path, flags, *args, **kwargs)
            self._step("create")
            fd = call(path, flags, *args, **kwargs)
            self._changed(path)
            return fd

        return change

    def _step(self, call: str) -> None:
        self.steps += 1
        self.fault(self.steps, call)

    def _changed(self, path: str) -> None:
        directory = os.path.dirname(os.path.abspath(path))
        if os.path.isdir(directory) and directory.startswith(self._root):
            self._names.setdefault(self._hold(directory), [{}]).append(self._now(directory))

    def fsync(self, fd: int) -> None:
        """Takes the place of os.fsync, which is not called: that would only cost time."""
        self._step("fsync")
        path = os.readlink(f"/proc/self/fd/{fd}")
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self._names[self._hold(path)] = [self._now(path)]
        else:
            self._files[self._hold(path)] = _content(fd)

    def syncfs(self, fd: int) -> None:
        """Takes the place of the kernel's."""
        self._step("syncfs")
        if self.kind not in IDLE_SYNCFS:
            self.sync_all()

    def sync_all(self) -> None:
        """All that is there is durable."""
        for directory, _, files in os.walk(self._root):
            self._names[self._hold(directory)] = [self._now(directory)]
            for name in files:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    self._files[self._hold(path)] = _content(file.fileno())

    def _now(self, directory: str) -> Names:
        return {name: self._hold(os.path.join(directory, name)) for name in os.listdir(directory)}

    def _hold(self, path: str) -> int:
        # A held inode's number is not given out again.
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        inode = os.fstat(fd).st_ino
        if inode in self._held:
            os.close(fd)
        else:
            self._held[inode] = fd
        return inode

    # -- the power goes -------------------------------------------------------------------------------------------

    def cut(self, dice: random.Random | None = None) -> None:
        """Put the tree into a state after a power cut: all that was not synced is lost, or what the `dice` say.
        Nobody may have its files open."""
        after = dict(self._after(self._root, os.stat(self._root).st_ino, dice))
        for name in os.listdir(self._root):
            path = os.path.join(self._root, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        for path, file in after.items():
            if file is None:
                os.mkdir(path, 0o700)
                continue
            content, attribute = file
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(content)
            if attribute is not None:
                os.setxattr(path, ATTRIBUTE, attribute)
        self.close()
        self._files.clear()
        self._names.clear()
        self.sync_all()

    def _after(self, path: str, inode: int, dice: random.Random | None) -> Iterator[tuple[str, File | None]]:
        states = self._names.get(inode, [{}])
        for name, file in sorted((dice.choice(states) if dice else states[0]).items()):
            target = os.path.join(path, name)
            if stat.S_ISDIR(os.fstat(self._held[file]).st_mode):
                yield target, None
                yield from self._after(target, file, dice)
            else:
                yield target, self._mixed(file, dice)

    def _mixed(self, inode: int, dice: random.Random | None) -> File:
        durable = self._files.get(inode, (b"", None))
        if dice is None:
            return durable
        # By /proc: a held inode may have lost its name.
        with open(f"/proc/self/fd/{self._held[inode]}", "rb") as file:
            now = _content(file.fileno())
        length = dice.choice((len(durable[0]), len(now[0])))
        sectors = []
        for start in range(0, length, SECTOR) if durable[0] != now[0] else ():
            end = min(start + SECTOR, length)
            sectors.append(dice.choice((durable, now))[0][start:end].ljust(end - start, b"\0"))
        return b"".join(sectors) if durable[0] != now[0] else durable[0], dice.choice((durable, now))[1]


def _content(fd: int) -> File:
    content = os.pread(fd, os.fstat(fd).st_size, 0) if os.get_blocking(fd) else b""
    try:
        return content, os.getxattr(fd, ATTRIBUTE)
    except OSError:
        return content, None
