"""The 24-hour window: when a free-form message may go to somebody, and what a channel takes.

A customer's message opens the window, from its own time and not from its arrival (Meta, Cloud API,
customer service window); each later one opens it anew. Outside of it only templates pass.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.kernel.errors import InvalidInput, TellwireError
from whatsapp.domain.entities import (
    ChannelNotActive,
    ChannelNotFound,
    ChannelStatus,
    OutboundMessage,
    WindowPolicy,
)

WINDOW: Final = timedelta(hours=24)
MARGIN: Final = timedelta(minutes=1)
"""The window counts as closed this long before Meta closes it: a message needs time to get there,
and clocks differ."""
ACCEPTING: Final = frozenset({ChannelStatus.ACTIVE, ChannelStatus.PAUSED})
"""A paused channel keeps its messages, so it takes new ones too."""


class ServiceWindowClosed(InvalidInput):
    """The customer has not written within 24 hours, and this channel does not try anyway."""

    code = "service_window_closed"
    title = "The customer has not written within 24 hours: send a template instead"


class MarketingStopped(InvalidInput):
    """The recipient told Meta that they want no marketing messages, and this channel heeds it."""

    code = "marketing_stopped"
    title = "The recipient wants no marketing messages: send none, or something else"


def needs_inbound_after(message: OutboundMessage, now: datetime) -> datetime | None:
    """The customer must have written after this for the message to pass; None for a template.

    What is sent later needs the window to be open then, as far as can be known now.
    """
    if not message.content.requires_open_window:
        return None
    return max(message.send_at or now, now) - WINDOW + MARGIN


def closes_at(last_inbound_at: datetime) -> datetime:
    """Until when free-form messages are taken after the customer's last one."""
    return last_inbound_at + WINDOW - MARGIN


@dataclass(frozen=True, slots=True)
class SendingTerms:
    """What decides whether a channel takes a message to somebody; no status means no channel."""

    channel_status: ChannelStatus | None
    window_policy: WindowPolicy | None = None
    last_inbound_at: datetime | None = None
    marketing_stopped: bool = False
    """Whether it is marketing for somebody who wants none, on a channel that heeds it."""

    def refusal(self, needed_after: datetime | None) -> TellwireError | None:
        """Why the message is not taken; None if it is. `needed_after` as above."""
        if self.channel_status is None:
            return ChannelNotFound(field="channel_id")
        if self.channel_status not in ACCEPTING:
            return ChannelNotActive(
                f"The channel is {self.channel_status}, so that it takes no messages",
                field="channel_id",
            )
        if self.marketing_stopped:
            return MarketingStopped(field="to")
        if needed_after is None or self.window_policy is WindowPolicy.ALLOW:
            return None
        if self.last_inbound_at is None or self.last_inbound_at <= needed_after:
            return ServiceWindowClosed(field="type")
        return None
