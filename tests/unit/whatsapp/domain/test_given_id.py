import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel.ids import new_id
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import (
    MessageContent,
    PhoneNumber,
    given_wamid,
    message_id_behind,
)


@given(st.uuids())
def test_the_message_is_found_behind_the_id_that_was_given_for_it(message_id) -> None:
    wamid = given_wamid(message_id)

    assert message_id_behind(wamid) == message_id
    assert re.fullmatch(r"wamid\.[A-Za-z0-9_-]{28}", wamid)


@given(st.text() | st.binary(max_size=60).map(lambda raw: f"wamid.{raw.hex()}"))
def test_nothing_is_found_behind_other_texts(text) -> None:
    assert message_id_behind(text) is None
    assert message_id_behind(f"wamid.{text}") is None


@pytest.mark.parametrize(
    "wamid",
    ["", "wamid.", "wamid.HBgLMTQxNTU1NTAxMDAVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA", "wamid.dHcx"],
)
def test_an_id_of_metas_is_nobody_of_ours(wamid) -> None:
    assert message_id_behind(wamid) is None


def test_one_wrong_letter_makes_it_nobodys() -> None:
    wamid = given_wamid(new_id())
    for place in range(6, len(wamid)):
        other = "A" if wamid[place] != "A" else "B"
        assert message_id_behind(wamid[:place] + other + wamid[place + 1 :]) is None


def _message(content):
    return OutboundMessage(
        tenant_id=new_id(),
        channel_id=new_id(),
        recipient=PhoneNumber("+4915112345678"),
        content=content,
    )


def test_a_message_knows_which_of_ours_it_is_about() -> None:
    other = new_id()
    text = MessageContent.text("Hello")

    assert _message(text).quoted_id is None
    assert _message(text.replying_to("wamid.meta")).quoted_id is None
    assert _message(text.replying_to(given_wamid(other))).quoted_id == other
    assert _message(MessageContent.reaction(given_wamid(other), "+")).quoted_id == other


def test_what_a_message_is_about_can_be_spelled_as_meta_does() -> None:
    quoting = MessageContent.text("Hello").replying_to(given_wamid(new_id()))
    reaction = MessageContent.reaction(given_wamid(new_id()), "+")

    assert quoting.referring_to("wamid.x") == MessageContent.text("Hello").replying_to("wamid.x")
    assert reaction.referring_to("wamid.x") == MessageContent.reaction("wamid.x", "+")
