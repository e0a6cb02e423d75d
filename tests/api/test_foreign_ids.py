"""Another tenant's ids in every place of every request: they mean what unknown ids mean.

The places come from the OpenAPI document. What a name in it stands for is written down here, so
that a new one is a failure until somebody has said whose it may be.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import pytest

from belongings import Belongings, belongings_of
from described_api import Operation, Place, operations_of, with_value
from shared.kernel.ids import new_id
from whatsapp.domain.value_objects import given_media_id, given_wamid
from whatsapp.entrypoints.http.cursor import write_cursor

FILES = {"image", "audio", "video", "document", "sticker"}
"""Meta's objects, which may name one of the tenant's files."""
SAME_NAME = {
    "channel_ids": "channel_id",
    "event_ids": "event_id",
    "Idempotency-Key": "idempotency_key",
    "cursor": "message_id",
}
OTHER_THING = {("GET", "/v1/media", "message_id"): "heard_id"}
NOBODYS = {
    *("limit", "status", "code", "created_from", "created_before", "unread", "filename", "Range"),
    *("content-type", "field", "not_understood", "graph_version", "major", "minor", "app_id"),
    *("hub.mode", "hub.verify_token", "hub.challenge", "messages", "type", "text", "location"),
    *("contacts", "interactive", "template", "reaction", "context", "send_at", "expires_at"),
    *("priority", "metadata", "any", "name", "access_token", "provider_account_id"),
    *("messages_per_second", "keeps_order", "window_policy", "marketing_policy", "on_unknown"),
    *("reason", "url", "description", "event_types", "format", "enabled", "overlap_seconds"),
    *("since", "until", "after", "messaging_product", "recipient_type"),
    "biz_opaque_callback_data",
    # People: any tenant may write to anybody.
    *("to", "recipient", "known_as"),
}
"""Names that stand for nothing that a tenant has."""
UNLOOKED_AT = {
    "cursor": "is a position, whatever lies there",
    "message_id": "in a wamid is looked up when it is sent, or is Meta's to know",
}
"""Places whose owner is not told either whether there is such a thing."""
FITTING = {
    "graph_version": "v23.0",
    "major": "23",
    "minor": "0",
    "app_id": "1",
    "name": "A name",
    "to": "+4915550000001",
    "access_token": "EAAGx",
    "url": "https://a.example/x",
    "since": "2026-01-01T00:00:00Z",
}
_VARYING = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d{2}-\d{2}T[\d:.]+(?:Z|\+00:00)"
    r"|wamid\.[\w=-]+|whsec_[\w+/=]+|\b\d{15,39}\b|unique \w+"
)
"""Ids, times, secrets: in two answers to two requests they differ anyhow."""


def nearly(thing: Any, by: int = 1) -> Any:
    """An id like this one, which nothing has; one of ours sorts beside it."""
    return UUID(int=thing.int ^ by) if isinstance(thing, UUID) else str(new_id().int)[-15:]


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """A place of an operation that takes an id of `thing`, and how it is written there."""

    operation: Operation
    place: Place
    thing: str
    write: Callable[[Any], Any]

    @property
    def is_unlooked_at(self) -> bool:
        """Whether not even the owner is told if there is such a thing."""
        name = str(self.place[-1])
        is_path = self.place[0] == "path"
        return name in UNLOOKED_AT and not is_path and self.write is not str

    async def ask(self, client, customer, own: Belongings, value: Any) -> tuple[int, str]:
        """What `customer` is told who puts an id there, and their own ids everywhere else."""
        mine = {name: str(one) for name, one in asdict(own).items()}
        given: dict[str, Any] = mine | FITTING
        given["text"] = {"body": f"unique {new_id().hex}"}
        given["phone_number_id"] = nearly(own.phone_number_id)
        place, written, operation = self.place, self.write(value), self.operation
        where = place[0] if place[0] in {"path", "query", "header"} else "body"
        if "phone_number_id" in operation.parameters("path"):
            given["phone_number_id"] = own.phone_number_id
        if operation.path.endswith("/v{major}.{minor}/{media_id}"):
            given["media_id"] = given_media_id(own.media_id)
        if where == "path":
            given[place[1]] = written
        body = operation.body(given)
        if "{phone_number_id}/messages" in operation.path:
            body |= {"type": "text", "text": given["text"]}
        body = _fitting(body, place, written) if body is not None else None
        headers = customer.headers | ({place[1]: written} if where == "header" else {})
        if operation.path.endswith("/media") and operation.method == "POST":
            file = {"files": {"messaging_product": (None, "whatsapp"), "file": ("a.txt", b"A")}}
        else:
            file = {"json": body} if body is not None else {}
        answer = await client.request(
            operation.method,
            operation.url(given),
            headers=headers,
            params={place[1]: written} if where == "query" else {},
            **file,
        )
        return answer.status_code, _VARYING.sub("?", answer.text)


def _fitting(body: Any, place: Place, written: Any) -> Any:
    """The body with the id in its place, and with what belongs to it there."""
    body = {name: part for name, part in body.items() if name not in {"context", "message_id"}}
    if place[0] in {"path", "query", "header"}:
        return body
    last, parent = place[-1], place[:-1]
    if last == "event_ids":
        body.pop("since", None)
    if last == "message_id" and "context" not in place:
        return {"messaging_product": "whatsapp", "status": "read", "message_id": written}
    if last in FILES:
        body = with_value(body, (*parent, "type"), last)
        body = with_value(body, (*parent, "text"), None)
    return with_value(body, place, written)


def spots_of(operation: Operation) -> Iterator[Spot]:
    """Every place of `operation` that takes an id; fails at a name that nobody has judged."""
    for where in ("path", "query", "header"):
        for name in operation.parameters(where):
            yield from _spot(operation, (where, name))
    for place in operation.places():
        if place and isinstance(place[-1], str):
            yield from _spot(operation, place)


def _spot(operation: Operation, place: Place) -> Iterator[Spot]:
    name = str(place[-1])
    if name in NOBODYS:
        return
    thing = OTHER_THING.get((operation.method, operation.path, name), SAME_NAME.get(name, name))
    write: Callable[[Any], Any] = str
    if name in FILES:
        thing, write = "media_id", lambda value: {"id": str(value)}
    elif name == "cursor":
        write = write_cursor
    elif name.endswith("_ids"):
        write = lambda value: [str(value)]  # noqa: E731  # three ways of writing an id side by side
    elif name == "message_id" and place[0] not in {"path", "query"}:
        write = given_wamid
    elif name == "media_id" and "major" in operation.path:
        write = given_media_id
    assert thing in {*Belongings.__slots__, "idempotency_key"}, (
        f"{name} of {operation.method} {operation.path}: say here what it is the id of"
    )
    yield Spot(operation, place, thing, write)


@pytest.fixture
async def spots(client):
    operations = operations_of((await client.get("/openapi.json")).json())
    found = [spot for operation in operations for spot in spots_of(operation)]
    # Last what takes a number in: it is a number of the caller's own then.
    return sorted(found, key=lambda spot: spot.operation.path == "/v1/channels")


async def rows_of(world, tenant_id) -> dict[str, Any]:
    """Everything that a tenant has, by table."""
    tables = await world.query(
        "SELECT DISTINCT table_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND column_name = 'tenant_id'"
    )
    assert len(tables) > 15
    found = {}
    for table in tables:
        query = f"SELECT t::text FROM {table.name} t WHERE tenant_id = :t ORDER BY 1"  # noqa: S608  # a name of ours
        found[table.name] = [row[0] for row in await world.query(query, t=tenant_id)]
    return found


async def thing_of(client, customer, own: Belongings, spot: Spot) -> Any:
    """What the spot takes of theirs; a key is used up by whoever tries it, so each has its own."""
    if spot.thing != "idempotency_key":
        return getattr(own, spot.thing)
    key = f"key-{new_id()}"
    answer = await client.post(
        "/v1/messages",
        json={"channel_id": str(own.channel_id), "to": "+4915550000001", "text": {"body": key}},
        headers=customer.headers | {"Idempotency-Key": key},
    )
    assert answer.status_code == 202
    return key


async def test_an_id_of_another_tenant_is_an_id_that_nothing_has(
    world, client, ana, bea, spots
) -> None:
    hers, theirs = [await belongings_of(world, client, one) for one in (ana, bea)]
    foreign = {spot: await thing_of(client, bea, theirs, spot) for spot in spots}
    before = await rows_of(world, bea.tenant_id)
    assert len(spots) > 60

    for spot in spots:
        # The first may change something of her own, as one that sends dead letters again does.
        _, *told = [
            await spot.ask(client, ana, hers, value)
            for value in (nearly(foreign[spot], 2), foreign[spot], nearly(foreign[spot]))
        ]
        assert told[0] == told[1], (spot.operation.method, spot.operation.path, spot.place)
    assert await rows_of(world, bea.tenant_id) == before

    silent = []
    for spot in spots:
        thing = foreign[spot]
        if spot.operation.method == "DELETE":
            theirs = await belongings_of(world, client, bea)
            thing = await thing_of(client, bea, theirs, spot)
        other, own = [
            await spot.ask(client, bea, theirs, value) for value in (nearly(thing), thing)
        ]
        if other == own and not spot.is_unlooked_at:
            silent.append((spot.operation.method, spot.operation.path, spot.place, own))
    assert silent == []
