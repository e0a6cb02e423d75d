import json

import orjson
import pytest

from shared.kernel.ids import new_id
from whatsapp.domain.value_objects import MessageContent, PhoneNumber, UserId
from whatsapp.infrastructure.cloud_api.callback import callback_data
from whatsapp.infrastructure.cloud_api.payloads import message_payload, read_payload

ANA = PhoneNumber("+16505551234")
TEXT = MessageContent.text("Olá")


def test_a_text_to_a_number_keeps_the_plus():
    assert message_payload(to=ANA, content=TEXT, callback_data="tw1.x.1") == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+16505551234",
        "type": "text",
        "text": {"body": "Olá", "preview_url": False},
        "biz_opaque_callback_data": "tw1.x.1",
    }


def test_a_user_id_goes_where_user_ids_go():
    payload = message_payload(to=UserId("US.1A2b"), content=TEXT, callback_data="c")

    assert payload["recipient"] == "US.1A2b"
    assert "to" not in payload


def test_a_user_id_beside_a_number_goes_along():
    beside = {"recipient": "US.1A2b"}
    payload = message_payload(to=ANA, content=TEXT, callback_data="c", envelope=beside)

    assert (payload["to"], payload["recipient"]) == ("+16505551234", "US.1A2b")


CONTENTS = [
    TEXT,
    TEXT.replying_to("wamid.Q"),
    MessageContent.image(link="https://example.com/i.jpg", caption="Look"),
    MessageContent.document(id="123", filename="invoice.pdf"),
    MessageContent.audio(id="123", voice=True),
    MessageContent.location(37.4, -122.1, name="Park"),
    MessageContent.contacts([{"name": {"formatted_name": "Bo", "first_name": "Bo"}}]),
    MessageContent.reaction("wamid.Q", "\U0001f44d"),
    MessageContent.template(
        "hello", "en_US", [{"type": "body", "parameters": [{"type": "text", "text": "Ana"}]}]
    ),
    MessageContent.interactive(
        {
            "type": "button",
            "body": {"text": "Sure?"},
            "action": {"buttons": [{"type": "reply", "reply": {"id": "y", "title": "Yes"}}]},
        }
    ),
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content.type)
def test_what_is_sent_is_the_content_and_can_be_read_back(content):
    payload = message_payload(to=ANA, content=content, callback_data="c")

    sent = json.loads(orjson.dumps(payload))
    assert sent["type"] in sent
    assert MessageContent.from_payload(sent) == content


def test_a_reply_quotes_its_message():
    payload = message_payload(to=ANA, content=TEXT.replying_to("wamid.Q"), callback_data="c")

    assert payload["context"] == {"message_id": "wamid.Q"}


@pytest.mark.parametrize("length", [0, 513])
def test_callback_data_that_meta_would_refuse_is_not_sent(length):
    with pytest.raises(ValueError, match="512"):
        message_payload(to=ANA, content=TEXT, callback_data="x" * length)


def test_our_callback_data_names_no_person():
    text = callback_data(message_id=new_id(), attempt=1)

    assert "6505551234" not in text
    assert len(text) <= 64


def test_a_read_mark_may_show_that_somebody_is_typing():
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.Q"}

    assert read_payload("wamid.Q") == read
    assert read_payload("wamid.Q", is_typing=True) == {**read, "typing_indicator": {"type": "text"}}
