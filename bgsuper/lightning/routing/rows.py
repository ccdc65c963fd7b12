"""A channel's and a node's record, looked into and changed as the bytes that they are.

The graph keeps its channels and nodes as their records (`serialization`) and nothing else. As objects they would take
three times the memory, and Python's cyclic collector would walk through all of them again and again, which holds the
loop up for a tenth of a second with 50,000 channels; bytes are none of its business. Nor is anything left to encode
when the graph is persisted.

Rules:
1. A row holds what `serialization` encoded: positions in it are trusted. Bytes from outside are decoded first, which
   checks them, and encoded again.
2. Rows are looked at and dropped. Records do not change: a change gives another one.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import Final

from ..wire.bigsize import encode_bigsize
from .records import ChannelInfo, ChannelUpdateInfo, NodeAnnouncementInfo, NodeInfo
from .serialization import (
    ANNOUNCEMENT_TYPE,
    NODE_TYPE,
    UPDATE_FIELDS,
    UPDATE_TYPE,
    encode_node_announcement,
    encode_terms,
)

_RECEIVED_BYTES: Final = 2 + 8
_NODE_BYTES: Final = 2 + 33
_SCID_BYTES: Final = 8


class ChannelRow:
    """Some fields of a channel, as `ChannelInfo` has them. Direction 0 is from `node_one` to `node_two`."""

    __slots__ = ("_after_features", "_after_one", "_after_two", "_body", "_record")

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._body = _after_length(record, 0)
        self._after_features = _value(record, self._body)[1]
        self._after_one = _value(record, self._after_features + _RECEIVED_BYTES + _NODE_BYTES)[1]
        self._after_two = _value(record, self._after_one + _NODE_BYTES)[1]

    @property
    def node_one(self) -> bytes:
        """The lesser of the two ids."""
        stop = self._after_features + _RECEIVED_BYTES + _NODE_BYTES
        return self._record[stop - 33 : stop]

    @property
    def node_two(self) -> bytes:
        """The greater one."""
        stop = self._after_one + _NODE_BYTES
        return self._record[stop - 33 : stop]

    @property
    def capacity_sats(self) -> int | None:
        """Of the funding output, if somebody looked it up."""
        start = self._after_two + 3  # type, length, Opt's length
        if self._record[start - 1] == 0:
            return None
        return int.from_bytes(self._record[start : start + 8], "big")

    @property
    def announcement_received_time(self) -> int:
        """By our own clock."""
        start = self._after_features + 2
        return int.from_bytes(self._record[start : start + 8], "big")

    @property
    def is_announced(self) -> bool:
        """Whether there is an announcement that may be relayed."""
        start, stop = _value(self._record, self._announcement_at)
        return stop - start > 1

    @property
    def announcement_message(self) -> bytes | None:
        """The announcement, if it may be relayed."""
        return _message(self._record, self._announcement_at, ANNOUNCEMENT_TYPE)

    @property
    def _announcement_at(self) -> int:
        return self._after_two + (3 if self._record[self._after_two + 2] == 0 else 11)

    def last_update(self, direction: int) -> int | None:
        """The time of the newest update of a direction, None if there was none."""
        at = self._terms_at(direction)
        return None if at is None else int.from_bytes(self._record[at + 2 : at + 6], "big")

    def relayable_update(self, direction: int) -> int | None:
        """The same of one that may be relayed."""
        return None if self.update_message(direction) is None else self.last_update(direction)

    def update_message(self, direction: int) -> bytes | None:
        """The newest update of a direction, if it may be relayed."""
        at = self._terms_at(direction)
        return None if at is None else _message(self._record, at + UPDATE_FIELDS.size, UPDATE_TYPE)

    def terms(self, direction: int) -> ChannelUpdateInfo | None:
        """All that is known of a direction."""
        at = self._terms_at(direction)
        if at is None:
            return None
        fields = UPDATE_FIELDS.unpack_from(self._record, at)
        _, timestamp, _, enabled, _, cltv, _, least, _, most, _, base, _, rate = fields
        message = _message(self._record, at + UPDATE_FIELDS.size, UPDATE_TYPE)
        return ChannelUpdateInfo(timestamp, bool(enabled), cltv, least, most, base, rate, message)

    def info(self) -> ChannelInfo:
        """All of it, decoded."""
        features, stop = _value(self._record, self._body)
        return ChannelInfo(
            self._record[features + 2 : stop],
            self.node_one,
            self.node_two,
            self.terms(0),
            self.terms(1),
            self.capacity_sats,
            self.announcement_message,
            self.announcement_received_time,
        )

    def with_terms(self, direction: int, terms: ChannelUpdateInfo | None) -> bytes:
        """The record with other terms in one direction."""
        if direction:
            start, stop = self._after_one + _NODE_BYTES, self._after_two
        else:
            start, stop = self._after_features + _RECEIVED_BYTES + _NODE_BYTES, self._after_one
        return _joined(self._record[self._body : start], encode_terms(direction, terms), self._record[stop:])

    def _terms_at(self, direction: int) -> int | None:
        """Where the fixed fields of a direction begin."""
        at = self._after_one if direction else self._after_features + _RECEIVED_BYTES
        start, stop = _value(self._record, at + _NODE_BYTES)
        if stop - start == 1:
            return None
        return _after_length(self._record, _after_length(self._record, start))


class NodeRow:
    """Some fields of a node, as `NodeInfo` has them."""

    __slots__ = ("_announcement", "_body", "_record", "_scids")

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._body = self._announcement = _after_length(record, 0)
        at = self._body
        if record[at] == 2:
            self._announcement, at = _value(record, at)
        self._scids = _value(record, at)[0]

    def __contains__(self, short_channel_id: int) -> bool:
        scid = short_channel_id.to_bytes(_SCID_BYTES, "big")
        at = self._place(scid)
        return self._record[at : at + _SCID_BYTES] == scid

    @property
    def last_update(self) -> int | None:
        """The time of the node's announcement, None if there was none."""
        if self._announcement == self._body:
            return None
        features = _after_length(self._record, self._announcement)
        at = _value(self._record, features)[1] + 2
        return int.from_bytes(self._record[at : at + 4], "big")

    @property
    def announcement_message(self) -> bytes | None:
        """The node's announcement, if it may be relayed."""
        info = self.announcement_info
        return None if info is None else info.announcement_message

    @property
    def announcement_info(self) -> NodeAnnouncementInfo | None:
        """What the node says of itself."""
        if self._announcement == self._body:
            return None
        record = self._record
        start, stop = _value(record, _after_length(record, self._announcement))
        features, at = record[start + 2 : stop], stop + 6
        rgb, alias = record[at + 2 : at + 5], record[at + 7 : at + 39]
        last_update, at = int.from_bytes(record[at - 4 : at], "big"), at + 39
        message = None
        if record[at] == 8:
            start, at = _value(record, at)
            message = NODE_TYPE + record[start:at]
        start, stop = _value(record, at)
        return NodeAnnouncementInfo(features, last_update, rgb, alias, record[start:stop], message)

    def info(self) -> NodeInfo:
        """All of it, decoded."""
        scids = self._record[self._scids :]
        return NodeInfo(self.announcement_info, frozenset(struct.unpack(f">{len(scids) // _SCID_BYTES}Q", scids)))

    def with_channel(self, short_channel_id: int) -> bytes:
        """The record with one channel more, that it lacked."""
        scid = short_channel_id.to_bytes(_SCID_BYTES, "big")
        at = self._place(scid)
        return self._with_scids(self._record[self._scids : at] + scid + self._record[at:])

    def without_channel(self, short_channel_id: int) -> bytes | None:
        """The record without a channel that it has; None if that was the last one."""
        at = self._place(short_channel_id.to_bytes(_SCID_BYTES, "big"))
        scids = self._record[self._scids : at] + self._record[at + _SCID_BYTES :]
        return self._with_scids(scids) if scids else None

    def with_announcement(self, info: NodeAnnouncementInfo) -> bytes:
        """The record with another announcement."""
        return _node(_tlv(2, encode_node_announcement(info)), self._record[self._scids :])

    def _with_scids(self, scids: bytes) -> bytes:
        if self._announcement == self._body:
            return _node(b"", scids)
        return _node(self._record[self._body : _value(self._record, self._body)[1]], scids)

    def _place(self, scid: bytes) -> int:
        """Where `scid` is, or belongs."""
        record, start = self._record, self._scids
        count = (len(record) - start) // _SCID_BYTES
        at = bisect_left(range(start, len(record), _SCID_BYTES), scid, 0, count, key=lambda i: record[i : i + 8])
        return start + at * _SCID_BYTES


def new_node(short_channel_id: int) -> bytes:
    """The record of a node with one channel, of which nothing else is known."""
    return _node(b"", short_channel_id.to_bytes(_SCID_BYTES, "big"))


def _node(announcement: bytes, scids: bytes) -> bytes:
    return _joined(announcement, _tlv(4, scids))


def _joined(*parts: bytes) -> bytes:
    """A TLV stream behind its length."""
    return encode_bigsize(sum(map(len, parts))) + b"".join(parts)


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + encode_bigsize(len(value)) + value


def _message(record: bytes, at: int, kind: bytes) -> bytes | None:
    """What the TLV at `at`, Opt(message), holds, with its type."""
    start, stop = _value(record, at)
    return None if stop - start == 1 else kind + record[_after_length(record, start) : stop]


def _value(record: bytes, at: int) -> tuple[int, int]:
    """Where the value of the TLV at `at`, of a type below 0xFD, begins and ends."""
    length = record[at + 1]
    if length < 0xFD:
        return at + 2, at + 2 + length
    start = at + (4 if length == 0xFD else 6)
    return start, start + int.from_bytes(record[at + 2 : start], "big")


def _after_length(record: bytes, at: int) -> int:
    """Where a BigSize below 4 GiB at `at` ends."""
    first = record[at]
    if first < 0xFD:
        return at + 1
    return at + (3 if first == 0xFD else 5)
