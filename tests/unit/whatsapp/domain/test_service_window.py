from datetime import UTC, datetime, timedelta

import pytest

from shared.kernel.ids import new_id
from whatsapp.domain.entities import (
    ChannelNotActive,
    ChannelNotFound,
    ChannelStatus,
    OutboundMessage,
    WindowPolicy,
)
from whatsapp.domain.service_window import (
    MARGIN,
    WINDOW,
    SendingTerms,
    ServiceWindowClosed,
    needs_inbound_after,
)
from whatsapp.domain.value_objects import MessageContent, PhoneNumber

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
ACTIVE, ENFORCE = ChannelStatus.ACTIVE, WindowPolicy.ENFORCE


def message(content=None, **values):
    return OutboundMessage(
        tenant_id=new_id(),
        channel_id=new_id(),
        recipient=PhoneNumber("+4915112345678"),
        content=content or MessageContent.text("Hello"),
        created_at=NOW,
        **values,
    )


def test_a_template_needs_nobody_to_have_written() -> None:
    template = message(MessageContent.template("order_sent", "en"))

    assert needs_inbound_after(template, NOW) is None


@pytest.mark.parametrize(
    ("send_at", "leaves"),
    [(None, NOW), (NOW - timedelta(hours=1), NOW), (NOW + timedelta(hours=3),) * 2],
)
def test_free_text_needs_the_window_open_when_it_leaves(send_at, leaves) -> None:
    assert needs_inbound_after(message(send_at=send_at), NOW) == leaves - WINDOW + MARGIN


@pytest.mark.parametrize(
    ("terms", "needed_after", "refusal"),
    [
        (SendingTerms(None), None, ChannelNotFound),
        (SendingTerms(ChannelStatus.PENDING, ENFORCE), None, ChannelNotActive),
        (SendingTerms(ChannelStatus.DISABLED, ENFORCE), None, ChannelNotActive),
        (SendingTerms(ACTIVE, ENFORCE), None, None),
        (SendingTerms(ChannelStatus.PAUSED, ENFORCE), None, None),
        (SendingTerms(ACTIVE, ENFORCE), NOW, ServiceWindowClosed),
        (SendingTerms(ACTIVE, WindowPolicy.ALLOW), NOW, None),
        (SendingTerms(ACTIVE, ENFORCE, NOW), NOW, ServiceWindowClosed),
        (SendingTerms(ACTIVE, ENFORCE, NOW + timedelta(seconds=1)), NOW, None),
    ],
)
def test_what_is_refused_says_why(terms, needed_after, refusal) -> None:
    error = terms.refusal(needed_after)

    assert (error and type(error)) == refusal
