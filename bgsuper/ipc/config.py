"""CONFIG: what the host tells a worker before anything else. It goes over the pipe, since launch arguments must stay
tiny (a child that dies before it has read 64 KiB of them blocks its parent) and are readable by every user."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import FrameError
from .frames import Kind
from .messages import Message


class WorkerConfig(NamedTuple):
    """Exactly one of `url` and `persister` is set."""

    url: str | None
    persister: str | None  #: "package.module:Class"
    persister_config: dict[str, Any]  #: its keyword arguments
    sys_path: list[str]  #: where a persister is imported from: the host's own `sys.path`
    raises: list[str]  #: "module:Class" of exceptions that may cross the pipe as themselves
    host_pid: int  #: the worker ends when its parent is another
    distrust_cache: bool  #: a sync failed: drop the files' clean pages before reading them
    check: bool  #: read every value once, in the background, and insist on the high-water mark
    lock_timeout_s: float  #: how long to wait for an orphan of a dead host to finish

    def to_fields(self) -> list[object]:
        return [self._asdict()]

    @classmethod
    def from_message(cls, message: Message) -> WorkerConfig:
        """Read a CONFIG message; `FrameError` if it is none."""
        match message:
            case Message(
                kind=Kind.CONFIG,
                fields=[
                    {
                        "url": str() | None,
                        "persister": str() | None,
                        "persister_config": dict(),
                        "sys_path": list(),
                        "raises": list(),
                        "host_pid": int(),
                        "distrust_cache": bool(),
                        "check": bool(),
                        "lock_timeout_s": float(),
                    } as values
                ],
            ) if len(values) == len(cls._fields):
                return cls(**values)
        raise FrameError(f"expected CONFIG with {len(cls._fields)} settings first, got {message.kind.name}")
