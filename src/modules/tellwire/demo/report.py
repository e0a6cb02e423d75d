"""The demonstration's report: per tenant what became of its messages, and what Meta saw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tellwire.demo.traffic import Followed

SPACED_SECOND: Final = 1.008
"""The limiter spreads a second's rate over one second and 8 ms, or more."""


def longest_stall_seconds(report: Mapping[str, Any]) -> float:
    """For how long the simulator may have stood still, by its own report: what came piled up."""
    return float(report["longest_stall_ms"] + report["stall_precision_ms"]) / 1e3


def most_that_may_arrive(rate: int, *, stall_seconds: float) -> int:
    """How many requests may arrive in one second: `rate`, where the machine held nobody up.

    What left within a second and a stall arrives within a second, where who counts was kept from
    running for so long. Slots lie `SPACED_SECOND` apart for each `rate` of them, or more; the last
    3 ms of their use are left to the way.
    """
    span = SPACED_SECOND + stall_seconds
    return math.ceil(round(span * rate / SPACED_SECOND, 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantReport:
    """One tenant's line; counts are messages, `most_per_second` of any sliding second."""

    name: str
    accepted: int
    sent: int
    delivered: int
    read: int
    failed: int
    reasons: str
    most_per_second: int
    rate: int
    stall_seconds: float
    doubled: int
    lost: int

    @property
    def is_clean(self) -> bool:
        """Everything was read, once, and never faster than allowed."""
        return (
            self.read == self.accepted
            and self.failed == self.doubled == self.lost == 0
            and self.most_per_second <= self.rate
        )

    @property
    def may_have_piled_up(self) -> bool:
        """Whether more came in a second than is allowed, and a stall of who counts explains it."""
        most = most_that_may_arrive(self.rate, stall_seconds=self.stall_seconds)
        return self.rate < self.most_per_second <= most


def tenant_report(one: Followed, before: dict[str, Any], after: dict[str, Any]) -> TenantReport:
    """Compare what the API says of one tenant with what the simulator saw between two reports."""
    was, now = _number(before, one), _number(after, one)
    seen = now.get("distinct_messages", 0) - was.get("distinct_messages", 0)
    return TenantReport(
        name=one.tenant.name,
        accepted=one.accepted,
        sent=one.reached("sent", "delivered", "read", "played"),
        delivered=one.reached("delivered", "read", "played"),
        read=one.reached("read", "played"),
        failed=one.reached("failed", "expired", "cancelled"),
        reasons=", ".join(f"{reason} ({n})" for reason, n in one.reasons.most_common(3)),
        most_per_second=now.get("max_offered_in_any_second", 0),
        rate=now.get("messages_per_second", 0),
        stall_seconds=longest_stall_seconds(after),
        doubled=now.get("doubled_messages", 0) - was.get("doubled_messages", 0),
        lost=max(0, one.accepted - seen),
    )


def as_table(reports: Sequence[TenantReport]) -> Table:
    """The report as people read it."""
    caption = "most/s: most requests that Meta saw in any sliding second, of what it allows"
    if any(one.may_have_piled_up for one in reports):
        caption += (
            f"\n(the simulator stood still for up to {reports[0].stall_seconds * 1e3:.0f} ms, "
            "which may have piled up what left in time)"
        )
    table = Table(
        title="What became of the messages",
        caption=caption,
        title_justify="left",
        caption_justify="left",
        padding=(0, 0),
        box=SIMPLE_HEAD,
    )
    table.add_column("tenant", no_wrap=True)
    for name in ("accepted", "sent", "delivered", "read", "failed", "most/s", "doubled", "lost"):
        table.add_column(name, justify="right", min_width=len(name))
    for one in reports:
        table.add_row(
            one.name,
            *(str(n) for n in (one.accepted, one.sent, one.delivered, one.read)),
            f"{one.failed} {one.reasons}".strip(),
            f"{one.most_per_second}/{one.rate}",
            str(one.doubled),
            str(one.lost),
            style=None if one.is_clean else "bold red",
        )
    return table


def _number(report: dict[str, Any], one: Followed) -> dict[str, Any]:
    wanted = one.tenant.phone_number_id
    found = (n for n in report["numbers"] if n["phone_number_id"] == wanted)
    return next(found, {})
