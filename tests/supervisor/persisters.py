"""Persisters that tests have the worker import: one that works, and those that go wrong as they are told to."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Lock, Thread, get_ident

from bgsuper.faults.disk_sleep import sleep_uninterruptibly
from tests.ipc import exceptions


class DiskOfMineError(Exception):
    """A persister's own error, with attributes that survive the pipe."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


class Vanishing(Exception):
    """One that the host no longer has when it arrives."""


class Files:
    """Writes each value to a file; raises where `fails` says so."""

    def __init__(self, directory: str, fails: str = "") -> None:
        self._directory, self._fails = Path(directory), fails

    def _write(self, name: str, data: bytes) -> None:
        if name == self._fails:
            raise DiskOfMineError(f"cannot write the {name}", 7)
        (self._directory / name).write_bytes(data)

    def persist_manager(self, data: bytes) -> None:
        self._write("manager", data)

    def persist_graph(self, data: bytes) -> None:
        self._write("graph", data)

    def persist_scorer(self, data: bytes) -> None:
        self._write("scorer", data)


#: What the values begin with that a `Faulty` persister cannot bear.
BAD = b"bad"


class Faulty(Files):
    """Does `fault`, the name of one of its methods, with each value that begins with `BAD`; `times` times in all the
    processes that it lives in. `amount` is the fault's to read."""

    def __init__(self, directory: str, fault: str, times: int = 1000, amount: int = 0) -> None:
        super().__init__(directory)
        self._fault, self._amount = getattr(self, fault), amount
        self._times, self._count = times, self._directory / "faults"
        self._kept: list[object] = []

    def _write(self, name: str, data: bytes) -> None:
        if data.startswith(BAD):
            with self._count.open("ab") as count:
                done = count.tell()
                count.write(b".")
            if done < self._times:
                self._fault()
        super()._write(name, data)

    # -- deaths -------------------------------------------------------------------------------------------------------

    def exit_quietly(self) -> None:
        os._exit(self._amount)

    def exit_as_python_does(self) -> None:
        sys.exit(self._amount)

    def segfault(self) -> None:
        ctypes.string_at(0)

    def abort(self) -> None:
        os.abort()

    def close_everything(self) -> None:
        """The pipe to the host as well."""
        os.closerange(3, 256)

    def ask_too_much(self) -> None:
        """MemoryError, from the allocator itself."""
        self._kept.append(bytes(1 << 62))

    # -- no progress --------------------------------------------------------------------------------------------------

    def deadlock(self) -> None:
        lock = Lock()
        with lock:
            lock.acquire()

    def spin(self) -> None:
        """Python code, of which other threads get their share."""
        while True:
            get_ident()

    def hog(self) -> None:
        """C code that never lets go of the GIL."""
        sum(range(10**15))

    def dawdle(self) -> None:
        """Slow, but it ends: `amount` milliseconds."""
        time.sleep(self._amount / 1000)

    # -- the rest -----------------------------------------------------------------------------------------------------

    def swell_and_rest(self) -> None:
        """Uses `amount` bytes of memory, for as long as it takes to be seen."""
        self._kept.append(b"\1" * self._amount)
        time.sleep(3600)

    def linger(self) -> None:
        """Starts a thread for whose end Python waits at its own."""
        Thread(target=time.sleep, args=(3600,)).start()

    def beget(self) -> None:
        """Starts a process that keeps every descriptor, the pipe's too, and whose pid is left in a file."""
        everything = [number for number in map(int, os.listdir("/proc/self/fd")) if number > 2]
        child = subprocess.Popen(["sleep", "3600"], pass_fds=everything, stdin=subprocess.DEVNULL)
        (self._directory / "child").write_text(str(child.pid))
        child.returncode = 0  # nobody waits for it here


# -- what persist_manager may raise -----------------------------------------------------------------------------------


class Evil(Exception):
    """Its pickle is a call of os.system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (str(self.args[0]),)


def make(name: str, directory: str) -> Exception:
    """The exception of that name."""
    match name:
        case "with an errno":
            return OSError(errno.EROFS, "Read-only file system", f"{directory}/manager")
        case "with attributes":
            return DiskOfMineError("cannot write the manager", 7)
        case "a group":
            return ExceptionGroup("two disks", [OSError(errno.EIO, "the first"), DiskOfMineError("the second", 2)])
        case "large":
            return ValueError("HEAD" + "x" * 10_000_000 + "TAIL")
        case "evil":
            return Evil(f"touch {directory}/pwned")
        case "gone from the host":
            return Vanishing("now you see me")
        case "local":

            class Local(Exception):
                pass

            return Local("nobody can import me")
    error: type[Exception] = getattr(exceptions, name)
    return error(7, "home") if name == "TwoArguments" else error("what it says")


class Raises(Files):
    """Raises the exception called `error` for the manager, with a note, a cause, and frames of its own."""

    def __init__(self, directory: str, error: str) -> None:
        super().__init__(directory)
        self._error = error

    def persist_manager(self, data: bytes) -> None:
        try:
            raise KeyError("the first cause")
        except KeyError as cause:
            error = make(self._error, str(self._directory))
            error.add_note("while the manager was written")
            raise error from cause


class Uninterruptible:
    """A persister that writes the manager to a file, after disk-sleep of `seconds` each, so many `times`."""

    def __init__(self, directory: str, seconds: float, times: int = 1) -> None:
        self._directory, self._seconds, self._times = Path(directory), seconds, times

    def persist_manager(self, data: bytes) -> None:
        for _ in range(self._times):
            sleep_uninterruptibly(self._seconds)
        (self._directory / "manager").write_bytes(data)

    def persist_graph(self, data: bytes) -> None:
        """Not kept."""

    def persist_scorer(self, data: bytes) -> None:
        """Not kept."""
