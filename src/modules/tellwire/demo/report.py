"""The demonstration's report: per tenant what became of its messages, and what Meta saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tellwire.demo.traffic import Followed


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
        doubled=now.get("doubled_messages", 0) - was.get("doubled_messages", 0),
        lost=max(0, one.accepted - seen),
    )


def as_table(reports: Sequence[TenantReport]) -> Table:
    """The report as people read it."""
    table = Table(
        title="What became of the messages",
        caption="most/s: most requests that Meta saw in any sliding second, of what it allows",
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
