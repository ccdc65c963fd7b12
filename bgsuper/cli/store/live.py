"""A store that a worker has open: what its worker answers over the control socket.

Rules:
1. No socket, or one that nobody listens on, is no error: None, and the caller does without.
2. A worker that does not answer is one line, not a wait for ever; only a backup may take its time.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from ...errors import FrameError, StoreUnavailable
from ...ipc.frames import RECEIVE_BYTES, FrameReader, Kind
from ...ipc.messages import Assembler, Fields, encode_message, shape
from ...ipc.remote import Allowed, RemoteException
from ...key import Seq
from ...store.failures import from_os_error
from ...store.url import parse
from ...supervisor import BackupReport
from ...worker.control import address, socket_path

#: A writer that waits for its disk answers all the same; one that takes longer is stopped, or does not get to run.
ANSWER_S: Final = 10.0


def info(url: str) -> Mapping[str, object] | None:
    """What the worker that has the store `url` open tells of itself and of the store, by plain names; None if there is
    no such worker. Raises `StoreUnavailable` if it does not answer."""
    match _ask(url, Kind.INFO, [], ANSWER_S):
        case None:
            return None
        case ["info", dict() as told]:
            return {str(name): value for name, value in told.items()}
        case fields:
            raise FrameError(f"expected the worker of {url} to answer with info, got {shape(fields)}")


def backup(url: str, directory: str) -> BackupReport | None:
    """Have the worker that has the store `url` open make a backup at `directory`, an absolute path; None if there is no
    such worker. Raises as `Supervisor.backup`, and `StoreUnavailable` if the worker ends meanwhile."""
    match _ask(url, Kind.BACKUP, [os.fsencode(directory)], None):
        case None:
            return None
        case ["backup", [int() as last_commit, int() as size, float() as seconds]]:
            return BackupReport(Seq(last_commit), size, seconds)
        case fields:
            raise FrameError(f"expected the worker of {url} to answer with a backup, got {shape(fields)}")


def _ask(url: str, kind: Kind, fields: list[object], timeout_s: float | None) -> Fields | None:
    """The fields of the answer; an error that was the answer is raised."""
    path = socket_path(parse(url))
    if path is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_S)
        try:
            with address(path) as name:
                sock.connect(name)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except TimeoutError:
            raise _silent(url) from None
        except OSError as error:
            raise from_os_error(error, f"connecting to {path}") from error
        try:
            sock.sendall(b"".join(encode_message(kind, 1, fields)))
            sock.settimeout(timeout_s)
            answer = _receive(sock)
        except TimeoutError:
            raise _silent(url) from None
        except ConnectionError:
            answer = None
    match answer:
        case None:
            raise StoreUnavailable(
                f"the worker that has {url} open hung up: it ended, or it answers none but its own user and root"
            )
        case ["error", list() as described]:
            raise RemoteException.decode(described, allowed=Allowed()).rebuild()
    return answer


def _receive(sock: socket.socket) -> Fields | None:
    """One message's fields; None if the worker hung up before it was complete."""
    frames, messages = FrameReader(), Assembler()
    while data := sock.recv(RECEIVE_BYTES):
        for frame in frames.feed(data):
            message = messages.feed(frame)
            if message is not None:
                return message.fields
    return None


def _silent(url: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the worker that has {url} open did not answer within {ANSWER_S:g} s: it is stopped, or does not get to run; "
        "look at its host's health"
    )
