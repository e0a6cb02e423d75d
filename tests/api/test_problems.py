import pytest

from whatsapp.domain.entities import ChannelStatus


def text_to(customer, **changes):
    body = {
        "channel_id": str(customer.channel_id),
        "to": "+4915550000001",
        "type": "text",
        "text": {"body": "Hello"},
    } | changes
    return {name: value for name, value in body.items() if value is not ...}


INVALID = {
    "no channel": ({"channel_id": ...}, "channel_id", "validation_failed"),
    "channel is no id": ({"channel_id": "x"}, "channel_id", "validation_failed"),
    "nobody to send to": ({"to": ...}, "to", "invalid_recipient"),
    "number without plus": ({"to": "4915550000001"}, "to", "invalid_phone_number"),
    "number as a number": ({"to": 4915550000001}, "to", "validation_failed"),
    "not a user id": ({"to": ..., "recipient": "x"}, "recipient", "invalid_user_id"),
    "unknown type": ({"type": "fax"}, "type", "validation_failed"),
    "a pin, which is for groups": ({"type": "pin", "text": ...}, "type", "validation_failed"),
    "no content": ({"text": ...}, "text", "invalid_content"),
    "content of another type": (
        {"image": {"link": "https://a.example/b.png"}},
        "image",
        "invalid_content",
    ),
    "text too long": ({"text": {"body": "x" * 4097}}, "text.body", "invalid_content"),
    "text with a NUL": ({"text": {"body": "a\0b"}}, "text.body", "invalid_content"),
    "unknown field": ({"sent_at": "2030-01-01T00:00:00Z"}, "sent_at", "validation_failed"),
    "time without zone": ({"send_at": "2026-12-01T00:00:00"}, "send_at", "validation_failed"),
    "far future": ({"send_at": "9999-12-31T23:59:59-23:59"}, "send_at", "invalid_schedule"),
    "far past": ({"send_at": "0001-01-01T00:00:00+23:59"}, "send_at", "invalid_schedule"),
    "expired": ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "invalid_schedule"),
    "unknown priority": ({"priority": "urgent"}, "priority", "validation_failed"),
    "metadata not texts": ({"metadata": {"n": 1}}, "metadata.n", "validation_failed"),
    "metadata with a NUL": ({"metadata": {"n": "\0"}}, "metadata.n", "validation_failed"),
    "metadata too long": ({"metadata": {"n": "x" * 2000}}, "metadata", "invalid_metadata"),
    "too much metadata": (
        {"metadata": {str(i): "" for i in range(21)}},
        "metadata",
        "invalid_metadata",
    ),
    "context without id": ({"context": {}}, "context.message_id", "validation_failed"),
    "template without name": (
        {"type": "template", "text": ..., "template": {"language": {"code": "en"}}},
        "template.name",
        "invalid_content",
    ),
}


@pytest.mark.parametrize(("changes", "field", "code"), INVALID.values(), ids=INVALID.keys())
async def test_a_problem_names_the_field(client, ana, changes, field, code) -> None:
    answer = await client.post("/v1/messages", json=text_to(ana, **changes), headers=ana.headers)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["field"] == field
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"/docs/errors#{code}"
    assert answer.json()["status"] == 422
    assert answer.json()["instance"] == answer.headers["x-request-id"]


async def test_every_fault_of_a_request_is_named(client, ana) -> None:
    answer = await client.post(
        "/v1/messages", json={"priority": "urgent", "metadata": 1}, headers=ana.headers
    )

    assert {one["field"] for one in answer.json()["errors"]} == {
        "channel_id",
        "priority",
        "metadata",
    }


async def test_what_was_given_is_never_repeated(client, ana) -> None:
    given = text_to(
        ana, to="MARKED", type="MARKED", priority="MARKED", MARKED4915550000001="MARKED"
    )
    answer = await client.post("/v1/messages", json=given, headers=ana.headers)

    assert answer.status_code == 422
    assert "MARKED" not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_body"),
        (b"", 422, "validation_failed"),
        (b"\xff\xfe\x00", 400, "malformed_body"),
        (b"[" * 100_000, 400, "malformed_body"),
        (b"[]", 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (b'{"channel_id": NaN}', 422, "validation_failed"),
    ],
)
async def test_a_body_that_is_no_message_is_refused(client, ana, body, status, code) -> None:
    headers = ana.headers | {"Content-Type": "application/json"}
    answer = await client.post("/v1/messages", content=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_body_that_nobody_called_json_is_told_how_to_be_called(client, ana) -> None:
    answer = await client.post(
        "/v1/messages", content=b"{}", headers=ana.headers | {"Content-Type": "text/plain"}
    )
    listed = await client.post("/v1/messages", json=[], headers=ana.headers)

    assert answer.json()["detail"] == "A header Content-Type: application/json is needed"
    assert listed.json()["detail"] == "A JSON object is needed"


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "é"])
async def test_an_idempotency_key_is_visible_ascii(client, ana, key) -> None:
    headers = ana.headers | {"Idempotency-Key": key.encode()}
    answer = await client.post("/v1/messages", json=text_to(ana), headers=headers)

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_idempotency_key"
    assert answer.json()["field"] == "Idempotency-Key"


async def test_an_unknown_address_and_a_wrong_method_are_problems_too(client) -> None:
    unknown = await client.get("/v2/messages")
    method = await client.delete("/v1/messages")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "route_not_found")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in method.headers["allow"]


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/v1/messages", 1024 * 1024), ("/v1/messages/batch", 8 * 1024 * 1024)],
)
async def test_a_body_beyond_the_limit_is_refused(client, ana, path, limit) -> None:
    at_limit = await client.post(path, content=b" " * limit, headers=ana.headers)
    beyond = await client.post(path, content=b" " * (limit + 1), headers=ana.headers)

    assert at_limit.status_code == 422
    assert (beyond.status_code, beyond.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (ChannelStatus.ACTIVE, 202),
        (ChannelStatus.PAUSED, 202),
        (ChannelStatus.PENDING, 409),
        (ChannelStatus.DISABLED, 409),
    ],
)
async def test_only_channels_that_may_send_one_day_take_messages(
    client, world, ana, status, expected
) -> None:
    channel = await world.channel(ana.tenant_id, status=status)
    answer = await client.post(
        "/v1/messages", json=text_to(ana, channel_id=str(channel.id)), headers=ana.headers
    )

    assert answer.status_code == expected
    if expected == 409:
        assert answer.json()["code"] == "channel_not_active"


async def test_a_replay_is_answered_after_the_channel_was_disabled(client, world, ana) -> None:
    headers = ana.headers | {"Idempotency-Key": "before"}
    first = await client.post("/v1/messages", json=text_to(ana), headers=headers)
    await world.query(
        "UPDATE whatsapp_channels SET status = 'disabled' WHERE id = :id", id=ana.channel_id
    )

    again = await client.post("/v1/messages", json=text_to(ana), headers=headers)
    other = await client.post("/v1/messages", json=text_to(ana), headers=ana.headers)

    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert other.status_code == 409


@pytest.mark.parametrize("path", ["/v1/messages/x", "/v1/channels/x"])
async def test_an_id_that_is_none_names_its_place(client, ana, path) -> None:
    answer = await client.get(path, headers=ana.headers)

    assert answer.status_code == 422
    assert answer.json()["field"] in {"message_id", "channel_id"}


async def test_the_reference_of_errors_is_where_problems_point(client) -> None:
    answer = await client.get("/docs/errors")

    assert answer.status_code == 200
    assert "id=idempotency_key_reused" in answer.text


async def test_a_harmless_request_id_is_kept_and_another_is_replaced(client) -> None:
    kept = await client.get("/healthz", headers={"X-Request-ID": "from-the-caller-1"})
    replaced = await client.get("/healthz", headers={"X-Request-ID": "<script>"})

    assert kept.headers["x-request-id"] == "from-the-caller-1"
    assert "<" not in replaced.headers["x-request-id"]
