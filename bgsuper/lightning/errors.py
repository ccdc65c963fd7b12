"""What can be wrong with a Lightning message or record, in one hierarchy below `bgsuper.errors`.

    DecodeError                     bytes from outside that mean nothing
     |- MalformedMessage            ... from a peer: answer with a `warning`, drop the message
     |- MalformedSnapshot           ... from a rapid gossip sync server: fetch it again, or from another one
     |- MalformedGraph              ... where a network graph was stored: restore it or sync anew
     `- MalformedScorer             ... where a scorer was stored: restore it or start anew
    BgsuperError
     `- GossipRefused               a well-formed gossip message that the graph does not take; it is unchanged
         |- BadSignature            forged or damaged on its way: answer with a `warning`
         |- WrongChain              it speaks of another chain than ours
         |- Implausible             it contradicts itself or the channel's capacity
         |- Stale                   older than two weeks
         |- FromTheFuture           dated more than a day ahead of our clock
         |- NotNewer                we have the same message or a newer one
         |- AlreadyAnnounced        we have the channel
         |- RecentlyRemoved         the channel failed or went stale within the last week
         |- UnknownChannel          an update without an announced channel
         |- MissingTerms            a change of terms that never came
         |- UnknownNode             an announcement of a node without channels
         |- PrivateUpdate           its `dont_forward` bit keeps it between the channel's two ends
         |- FundingNotFound         the chain has no such unspent output
         |- FundingMismatch         that output is not the channel's: answer with a `warning`
         |- LookupsPending          so many funding outputs are being looked up that it must come again
         |- RateLimited             the peer has cost us too much for now
         `- Unasked                 a reply to no query of ours, or not to that one

A message to the peer is due for `MalformedMessage` and `BadSignature` alone (BOLT 7 says `warning`); whatever else
is refused reaches every node on the network now and then, and honest peers send it.
"""

from __future__ import annotations

from ..errors import BgsuperError, DecodeError


class MalformedMessage(DecodeError):
    """A message's bytes do not have the fields that its BOLT lays down."""


class MalformedSnapshot(DecodeError):
    """Bytes that should be a snapshot of rapid gossip sync are not, or are of a version that is not known."""


class MalformedGraph(DecodeError):
    """Bytes that should be a network graph, or one record of it, in LDK's format are not."""


class MalformedScorer(DecodeError):
    """Bytes that should be a probabilistic scorer in LDK's format are not."""


class GossipRefused(BgsuperError):
    """A well-formed gossip message that the network graph does not take. The graph is as it was."""


class BadSignature(GossipRefused):
    """A signature does not fit its key and message, or one of the two is no curve point."""


class WrongChain(GossipRefused):
    """The message's `chain_hash` is not the graph's."""


class Implausible(GossipRefused):
    """The message contradicts itself, or what is known of the channel."""


class Stale(GossipRefused):
    """A `channel_update` older than two weeks (BOLT 7, pruning)."""


class FromTheFuture(GossipRefused):
    """A `channel_update` dated more than a day ahead of our clock."""


class NotNewer(GossipRefused):
    """The graph holds a message of the same origin with the same or a later timestamp."""


class AlreadyAnnounced(GossipRefused):
    """The graph holds the channel."""


class RecentlyRemoved(GossipRefused):
    """The channel was removed within the last week; its announcement still goes round."""


class UnknownChannel(GossipRefused):
    """No `channel_announcement` with that short channel id came before."""


class MissingTerms(GossipRefused):
    """Rapid gossip sync changes the terms of a direction that has none yet."""


class UnknownNode(GossipRefused):
    """No announced channel belongs to that node."""


class FundingNotFound(GossipRefused):
    """There is no unspent output where the announced channel's funding output should be."""


class FundingMismatch(GossipRefused):
    """The output is not that of the announced channel's bitcoin keys."""


class LookupsPending(GossipRefused):
    """The funding output is still being looked up, or there is no room for one more lookup."""


class RateLimited(GossipRefused):
    """The peer has cost more than its allowance; nothing of its gossip is looked at for now."""


class Unasked(GossipRefused):
    """A reply that does not fit any query which we have open with the peer."""


class PrivateUpdate(GossipRefused):
    """A `channel_update` with `dont_forward` set; it is for the other end of the channel alone."""
