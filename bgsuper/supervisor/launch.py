"""Launching the worker.

Rules (reference: CPython's and others' bugs that they avoid):
1. Exec a fresh interpreter, never fork: a fork copies locks that nobody will release.
2. Tiny arguments; everything else goes over the pipe.
3. What is launched is watched from its first moment, or does not live: `children` knows of its death.
4. A session of its own: Ctrl-C in the terminal reaches the host, and the host tells the worker.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from .children import Child, Exit, MakeChild, best_child
from .children.pidfd import PidfdChild

__all__ = ["Child", "Exit", "Launcher", "PidfdChild", "launch"]

#: How long a worker that cannot be watched is waited for once it is killed.
GIVE_UP_S: Final = 1.0

#: Where this bgsuper is, so that the worker is the same one.
PACKAGE_ROOT: Final = str(Path(__file__).parents[2])

#: ``python -m bgsuper.worker``, of this very bgsuper. Its root is on the path only while it is found: the host may have
#: it from anywhere, and nothing else that lies there may take a standard module's place.
BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); import bgsuper; del sys.path[0]; "
    "from bgsuper.worker.__main__ import main; sys.exit(main(sys.argv[2:]))"
)


class _Process(subprocess.Popen[bytes]):
    """Not the garbage collector's to wait for. Where SIGCHLD is ignored, Popen would warn of a program that "is still
    running" though it could not even be executed."""

    def __del__(self) -> None:
        pass


class Launcher(Protocol):
    def __call__(self) -> Child:
        """Start a worker; `OSError` if that is impossible (no interpreter, no memory, no descriptors)."""


def launch(make_child: MakeChild | None = None) -> Child:
    """Start ``python -m bgsuper.worker`` with one end of a socket pair. `make_child` is what knows of its death, if not
    the best there is. Raises `OSError`: no interpreter, no memory, no descriptors."""
    if not sys.executable:
        raise FileNotFoundError(
            "this Python does not know its own program, as one that is embedded: set sys.executable to a Python that "
            "can import bgsuper"
        )
    make_child = make_child or best_child()
    ours, theirs = socket.socketpair()
    try:
        process = _Process(
            # -P: a queue.py in the working directory must not become the worker's.
            [sys.executable, "-P", "-c", BOOT, PACKAGE_ROOT, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    try:
        return make_child(process, ours)
    except BaseException as error:
        ours.close()
        _give_up(process)
        if isinstance(error, OSError | RuntimeError):
            raise OSError(f"the worker was launched, but it cannot be watched: {error}") from error
        raise


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """It cannot be watched, so it must not live. Nobody has reaped it, unless it is dead and SIGCHLD is ignored."""
    assert process.stderr is not None
    process.stderr.close()
    process.kill()
    try:
        process.wait(GIVE_UP_S)
    except subprocess.TimeoutExpired:
        pass  # stuck in the kernel, and not worth a thread: it has no store open yet
