"""CONFIG: what the host writes is what the worker reads; anything else first is an error of the pipe."""

from __future__ import annotations

import pytest

from bgsuper.errors import FrameError
from bgsuper.ipc.config import WorkerConfig
from bgsuper.ipc.frames import FrameReader, Kind
from bgsuper.ipc.messages import Assembler, Message, encode_message

CONFIG = WorkerConfig(
    url=None,
    persister="package.module:Class",
    persister_config={"path": "data", "retries": 3},
    sys_path=["site"],
    raises=["package.module:Error"],
    host_pid=4,
    distrust_cache=True,
    check=True,
    lock_timeout_s=2.5,
)


def test_a_config_comes_back() -> None:
    """Over the pipe, with either kind of target."""
    for config in CONFIG, CONFIG._replace(url="sqlite:data", persister=None, persister_config={}, raises=[]):
        [frame] = FrameReader().feed(b"".join(encode_message(Kind.CONFIG, 0, config.to_fields())))
        message = Assembler().feed(frame)
        assert message is not None
        assert WorkerConfig.from_message(message) == config


VALUES = CONFIG.to_fields()[0]


@pytest.mark.parametrize(
    "message",
    [
        Message(Kind.COMMIT, 0, [VALUES]),
        Message(Kind.CONFIG, 0, []),
        Message(Kind.CONFIG, 0, [VALUES, 1]),
        Message(Kind.CONFIG, 0, [[VALUES]]),
        Message(Kind.CONFIG, 0, [{}]),
        Message(Kind.CONFIG, 0, [{**VALUES, "more": 1}]),  # type: ignore[dict-item]
        Message(Kind.CONFIG, 0, [{b"url": None}]),
    ],
)
def test_anything_else_is_a_frame_error(message: Message) -> None:
    """A worker that is told something else first is of another version than its host."""
    with pytest.raises(FrameError, match=r"expected CONFIG with [0-9]+ settings first"):
        WorkerConfig.from_message(message)
