r"""The life of an outbound message as one table, for the entity's method and for the SQL guard.

    queued -> sending -> sent -> delivered -> read -> played
       ^         |  \-> failed               cancelled, expired: before sending
       |         v
       +---- retrying                        unknown: sent or not? an echo or a policy settles it

Two hands move a message. `STEPS` is what Tellwire does itself. `REPORTS` is what Meta tells: in
any order, repeated, with gaps (`delivered` is left out while the chat is open), before our own
request has returned (`sending`), after we gave up knowing (`unknown`) or even decided to send again
or not at all (`queued`, `retrying`, `cancelled`, `expired` after `unknown`). A report moves a
message to a higher rank only, so the highest report wins whatever the order.

`failed` ranks between `sent` and `delivered`: it ends what was only sent, a late `sent` does not
revive it, and proof of delivery beats it, before or after (Meta does send both).

The table knows no attempts. A report about an attempt that an operator's retry has replaced must
be recognised by its wamid or attempt and kept out, or it would speak for the new one.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias


class MessageStatus(StrEnum):
    """Where an outbound message stands; the values are what the database and the API show."""

    QUEUED = "queued"
    SENDING = "sending"
    RETRYING = "retrying"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SENT = "sent"
    FAILED = "failed"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"

    @property
    def rank(self) -> int:
        """How far along: no transition of `FORWARD` lowers it, and reports only raise it."""
        return _RANKS[self]

    @property
    def is_pending(self) -> bool:
        """Whether Tellwire still has to do something about the message."""
        return self.rank == 0

    @property
    def is_final(self) -> bool:
        """Whether nothing more is expected; proof from Meta may still correct it.

        `sent` and `delivered` are not final, although nothing may follow: receipts can be off.
        """
        return self in _FINAL


_S = MessageStatus
Transitions: TypeAlias = Mapping[MessageStatus, frozenset[MessageStatus]]

_RANKS: Mapping[MessageStatus, int] = MappingProxyType(
    {
        _S.QUEUED: 0,
        _S.SENDING: 0,
        _S.RETRYING: 0,
        _S.UNKNOWN: 0,
        _S.CANCELLED: 1,
        _S.EXPIRED: 1,
        _S.SENT: 2,
        _S.FAILED: 3,
        _S.DELIVERED: 4,
        _S.READ: 5,
        _S.PLAYED: 6,
    }
)
_FINAL = frozenset({_S.CANCELLED, _S.EXPIRED, _S.FAILED, _S.READ, _S.PLAYED})

REPORTED: frozenset[MessageStatus] = frozenset(
    {_S.SENT, _S.FAILED, _S.DELIVERED, _S.READ, _S.PLAYED}
)
"""The statuses that Meta reports."""

DEAD_LETTERS: frozenset[MessageStatus] = frozenset({_S.FAILED, _S.EXPIRED})
"""Ended without reaching anyone and without anybody's wish: what an operator looks through."""


def _table(steps: Mapping[MessageStatus, frozenset[MessageStatus]]) -> Transitions:
    """A table with an entry for every status."""
    return MappingProxyType({status: steps.get(status, frozenset()) for status in MessageStatus})


STEPS: Transitions = _table(
    {
        _S.QUEUED: frozenset({_S.SENDING, _S.CANCELLED, _S.EXPIRED, _S.FAILED}),
        # Back to the queue: the lease ran out before the mark, so nothing has left.
        _S.SENDING: frozenset({_S.SENT, _S.FAILED, _S.RETRYING, _S.UNKNOWN, _S.QUEUED}),
        _S.RETRYING: frozenset({_S.QUEUED, _S.SENDING, _S.CANCELLED, _S.EXPIRED, _S.FAILED}),
        # Silence beyond the deadline: the channel's policy resends or gives up. The others are the
        # answer itself, recorded late by a worker that had lost its lease.
        _S.UNKNOWN: frozenset({_S.QUEUED, _S.FAILED, _S.RETRYING, _S.EXPIRED}),
    }
)
"""What Tellwire does itself; a sweep that gives up on `unknown` must not touch a `sent`."""

REPORTS: Transitions = _table(
    {
        status: frozenset(report for report in REPORTED if report.rank > status.rank)
        for status in MessageStatus
    }
)
"""What Meta's report may change."""

FORWARD: Transitions = _table({status: STEPS[status] | REPORTS[status] for status in MessageStatus})
"""Everything that may happen without a person asking for it; repeating a status is not in it."""

RETRY: Transitions = _table(
    dict.fromkeys((_S.FAILED, _S.EXPIRED, _S.UNKNOWN), frozenset({_S.QUEUED}))
)
"""What an operator's or a tenant's explicit retry does, and nothing else may.

One that is unknown can be retried once nothing but a person decides about it any more.
"""


def sources_of(status: MessageStatus, table: Transitions = FORWARD) -> frozenset[MessageStatus]:
    """The statuses from which `table` leads to `status`: `WHERE status IN (...)` of an update."""
    return frozenset(source for source, targets in table.items() if status in targets)
