"""How events are told, in Tellwire's form and in Meta's."""

from datetime import UTC, datetime

import pytest

from shared.kernel.ids import new_id
from whatsapp.domain.events import Event, EventType
from whatsapp.domain.events.body import meta_body, tellwire_body
from whatsapp.domain.value_objects import message_id_behind
from whatsapp.domain.value_objects.given_id import given_wamid

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
MESSAGE = new_id()


def event(kind, data=None, **given):
    return Event(
        id=new_id(),
        number=1,
        type=EventType(kind),
        occurred_at=NOW,
        data=data or {},
        phone_number_id="1001",
        display_phone_number="+4930111",
        account_id="2001",
        **given,
    )


def outbound(kind, meta=None, **data):
    data = {"recipient": "+49151", "wamid": "wamid.meta"} | data
    return event(kind, data, subject_id=MESSAGE, meta=meta)


def value_of(body):
    return body["entry"][0]["changes"][0]["value"]


def test_tellwires_form_has_id_type_time_and_data() -> None:
    told = outbound("message.read")

    assert tellwire_body(told) == {
        "id": str(told.id),
        "type": "message.read",
        "timestamp": "2026-11-23T06:00:00+00:00",
        "data": {
            "recipient": "+49151",
            "wamid": "wamid.meta",
            "given_wamid": given_wamid(MESSAGE),
        },
    }


def test_metas_form_is_one_change_of_one_account() -> None:
    body = meta_body(outbound("message.sent"))

    assert body["object"] == "whatsapp_business_account"
    assert body["entry"][0]["id"] == "2001"
    assert body["entry"][0]["changes"][0]["field"] == "messages"
    assert value_of(body) == {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "4930111", "phone_number_id": "1001"},
        "contacts": [{"profile": {"name": ""}, "wa_id": "49151"}],
        "statuses": [
            {
                "id": given_wamid(MESSAGE),
                "status": "sent",
                "timestamp": "1795413600",
                "recipient_id": "49151",
            }
        ],
    }


def test_metas_own_words_are_kept_but_for_the_ids() -> None:
    raw = {"id": "wamid.meta", "status": "read", "timestamp": "1", "recipient_id": "7",
           "recipient_user_id": "DE.1", "biz_opaque_callback_data": "ours"}  # fmt: skip
    meta = {"field": "messages", "value": {"statuses": [raw]}}

    value = value_of(meta_body(outbound("message.read", meta)))

    del raw["biz_opaque_callback_data"]
    assert value["statuses"] == [raw | {"id": given_wamid(MESSAGE)}]
    assert value["contacts"] == [{"profile": {"name": ""}, "wa_id": "7", "user_id": "DE.1"}]
    assert message_id_behind(value["statuses"][0]["id"]) == MESSAGE


def test_a_recipient_known_by_user_id_alone_is_named_by_it() -> None:
    value = value_of(meta_body(outbound("message.delivered", recipient="DE.1")))

    assert value["statuses"][0]["recipient_user_id"] == "DE.1"
    assert "recipient_id" not in value["statuses"][0]  # Meta leaves out what would be a number.
    assert value["contacts"] == [{"profile": {"name": ""}, "user_id": "DE.1"}]


@pytest.mark.parametrize("kind", ["message.failed", "message.expired"])
def test_what_did_not_go_out_is_a_failed_status_with_an_error(kind) -> None:
    (status,) = value_of(meta_body(outbound(kind, failure={"title": "No"})))["statuses"]

    assert status["status"] == "failed"
    assert status["errors"] == [
        {"code": 131000, "title": "No", "message": "No", "error_data": {"details": ""}}
    ]


def test_an_inbound_message_that_answers_ours_names_the_id_that_was_given() -> None:
    raw = {"id": "wamid.in", "context": {"id": "wamid.meta", "from": "1"}}
    meta = {"field": "messages", "value": {"contacts": [], "messages": [raw]}}
    told = event("message.received", {"answers": str(MESSAGE)}, meta=meta)

    (message,) = value_of(meta_body(told))["messages"]

    assert message["context"] == {"id": given_wamid(MESSAGE), "from": "1"}


def test_a_reaction_to_ours_is_on_the_id_that_was_given() -> None:
    """Whoever sent through the drop-in endpoint never heard of Meta's own id."""
    body = {"message_id": "wamid.meta", "emoji": "\N{THUMBS UP SIGN}"}
    raw = {"id": "wamid.in", "type": "reaction", "reaction": body}
    meta = {"field": "messages", "value": {"contacts": [], "messages": [raw]}}
    told = event("message.received", {"answers": str(MESSAGE)}, meta=meta)

    (message,) = value_of(meta_body(told))["messages"]

    assert message == raw | {"reaction": body | {"message_id": given_wamid(MESSAGE)}}


@pytest.mark.parametrize("odd", [None, "x", 7, [], {}])
def test_an_answer_of_an_odd_shape_is_told_all_the_same(odd) -> None:
    for raw in ({"type": "text", "context": odd}, {"type": "reaction", "reaction": odd}):
        meta = {"field": "messages", "value": {"messages": [raw]}}
        told = event("message.received", {"answers": str(MESSAGE)}, meta=meta)

        assert len(value_of(meta_body(told))["messages"]) == 1


def test_a_test_event_is_a_change_that_clients_do_not_know() -> None:
    assert meta_body(event("webhook_endpoint.test"))["entry"][0]["changes"][0]["field"] == (
        "tellwire_test"
    )


def test_changes_of_templates_are_passed_on_under_their_field() -> None:
    meta = {"field": "message_template_status_update", "value": {"event": "APPROVED"}}

    (change,) = meta_body(event("template.status", meta=meta))["entry"][0]["changes"]

    assert change["field"] == "message_template_status_update"
    assert change["value"]["event"] == "APPROVED"


@pytest.mark.parametrize("value", [{"event": "APPROVED"}, ["odd"], "odd", None])
def test_a_change_of_a_template_is_about_its_account_and_no_number(value) -> None:
    told = Event(
        id=new_id(),
        number=1,
        type=EventType.TEMPLATE_STATUS,
        occurred_at=NOW,
        data={"account_id": "2001", "value": value},
        meta={"field": "template_category_update", "value": value},
    )

    assert meta_body(told)["entry"] == [
        {"id": "2001", "changes": [{"field": "template_category_update", "value": value}]}
    ]


def test_an_edited_file_is_told_without_its_address_at_meta() -> None:
    image = {"id": "1", "caption": "new", "url": "https://lookaside.example/1"}
    edit = {"original_message_id": "wamid.1", "message": {"type": "image", "image": image}}
    raw = {"id": "wamid.2", "type": "edit", "edit": edit}
    meta = {"field": "messages", "value": {"messages": [raw]}}

    (message,) = value_of(meta_body(event("message.edited", meta=meta)))["messages"]

    assert message["edit"]["message"]["image"] == {"id": "1", "caption": "new"}
    assert message["edit"]["original_message_id"] == "wamid.1"
