"""Each element of a webhook in a webhook of its own: what was put aside can be read again.

It walks as `webhooks.parse_webhook` does and keeps of the surroundings what an element is read
with: the account, the number, the time, and the contact of whoever wrote or was written to.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from whatsapp.infrastructure.cloud_api.fields import (
    identifier,
    is_storable,
    mapping,
    objects,
    read_json,
)
from whatsapp.infrastructure.cloud_api.people import Contacts, recipient_of, sender_of

_LISTS = ("statuses", "messages", "errors")


def bodies_of(raw: bytes, number: int) -> Sequence[bytes | None]:
    """A body for each of the `number` elements in `raw`; None for what cannot be written again."""
    document = read_json(raw)
    if not isinstance(document, dict):
        return [raw]
    found = [_written(one) for one in _documents(document)]
    return found if len(found) == number else [None] * number


def items_of(value: object) -> list[Any]:
    """The items of a list; something else that is there counts as one item, to be reported."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _written(document: dict[str, Any]) -> bytes | None:
    return json.dumps(document).encode() if is_storable(document) else None


def _documents(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if document.get("object") != "whatsapp_business_account":
        yield document
        return
    for entry in items_of(document.get("entry")):
        if not isinstance(entry, dict) or not isinstance(entry.get("changes"), list):
            yield {"object": document["object"], "entry": [entry]}
            continue
        around = {key: entry[key] for key in ("id", "time") if key in entry}
        for change in entry["changes"]:
            for one in _changes(change):
                yield {"object": document["object"], "entry": [{**around, "changes": [one]}]}


def _changes(change: Any) -> Iterator[Any]:
    value = mapping(mapping(change).get("value"))
    number = mapping(value.get("metadata")).get("phone_number_id")
    if mapping(change).get("field") != "messages" or identifier(number) is None:
        yield change
        return
    for one in _values(value):
        yield {**change, "value": one}


def _values(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    statuses, messages = items_of(value.get("statuses")), items_of(value.get("messages"))
    around = {key: item for key, item in value.items() if key not in (*_LISTS, "contacts")}
    contacts = objects(value.get("contacts"))
    known = Contacts(contacts)
    for status in statuses:
        recipient = known.of(recipient_of(mapping(status)))
        yield {**around, **({"contacts": [recipient]} if recipient else {}), "statuses": [status]}
    for message in messages:
        sender = known.of(sender_of(mapping(message)))
        # Whose a single one is may stand in the only contact.
        is_theirs = len(messages) == len(contacts) == 1
        about = contacts if is_theirs else [sender] if sender else []
        yield {**around, "contacts": about, "messages": [message]}
    if objects(value.get("errors")):
        yield {**around, "errors": value["errors"]}
    elif not statuses and not messages:
        yield value
