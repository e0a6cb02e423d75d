"""Webhooks: is the body really from Meta, and what is in it.

The signature is checked over the bytes as they came, before anything is parsed; a body that was
parsed and written out again has another signature. (Meta, Graph API webhooks, validating payloads.)
"""

import hmac
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from shared.kernel.secret import Secret
from whatsapp.domain.account import AccountFact, CallReported, PreferenceReported
from whatsapp.domain.outcome import scrub
from whatsapp.domain.value_objects import REPORTED
from whatsapp.domain.webhook import (
    FieldChanged,
    StatusReported,
    TroubleReported,
    Unrecognised,
    WebhookBatch,
    WebhookElement,
)
from whatsapp.infrastructure.cloud_api.alone import bodies_of, items_of
from whatsapp.infrastructure.cloud_api.callback import parse_callback_data
from whatsapp.infrastructure.cloud_api.changes import account_of, facts_of
from whatsapp.infrastructure.cloud_api.fields import (
    failures,
    identifier,
    is_storable,
    mapping,
    moment,
    objects,
    read_json,
)
from whatsapp.infrastructure.cloud_api.inbound import inbound_of
from whatsapp.infrastructure.cloud_api.people import Contacts, names_in, recipient_of

SIGNATURE_HEADER = "X-Hub-Signature-256"
MAX_BODY_BYTES = 3 * 1024 * 1024
"""Meta's own limit of a webhook's body."""

_PREFIX = b"sha256="
_SIGNATURE_BYTES = len(_PREFIX) + 64
_MESSAGES = "messages"
_OBJECT = "whatsapp_business_account"
_MAX_SHOWN_CHARACTERS = 40
_STATUSES = {status.value: status for status in REPORTED}


def signature_matches(raw: bytes, header: bytes | str | None, secrets: Sequence[Secret]) -> bool:
    """Whether one of the secrets signed exactly these bytes. Never raises.

    Only `sha256=` and 64 lower-case hexadecimal digits are a signature. The body is hashed once for
    every secret, whichever matches; an empty secret never does.
    """
    given = _digest_of(header)
    if given is None:
        return False
    matches = False
    for secret in secrets:
        key = secret.reveal().encode(errors="surrogatepass")
        expected = hmac.digest(key, raw, "sha256").hex().encode()
        # Not `any(...)`, which would stop at the first match.
        matches |= hmac.compare_digest(given, expected) and bool(key)
    return matches


def _digest_of(header: bytes | str | None) -> bytes | None:
    """What should be the digest; what cannot be one is not worth hashing three megabytes."""
    if isinstance(header, str):
        # As bytes, because comparing texts in constant time raises for anything but ASCII.
        header = header.encode(errors="surrogatepass")
    if header is None or len(header) != _SIGNATURE_BYTES or not header.startswith(_PREFIX):
        return None
    return header[len(_PREFIX) :]


def parse_webhook(raw: bytes) -> WebhookBatch:
    """Every element of a body, whatever is wrong with its neighbours. Never raises.

    What cannot be read becomes `Unrecognised`; a body that is no JSON is one of those. Nothing is
    left out and nothing is merged: deduplication is for whoever knows what was stored before.
    """
    document = read_json(raw)
    if not isinstance(document, dict):
        return WebhookBatch((Unrecognised(reason="not a JSON object"),), lambda: [raw])
    elements: Iterable[WebhookElement] = _elements(document)
    if not is_storable(document):
        elements = map(_without_endless_nesting, elements)
    found = tuple(elements)
    return WebhookBatch(found, partial(bodies_of, raw, len(found)))


def _without_endless_nesting(element: WebhookElement) -> WebhookElement:
    if is_storable(element.raw):
        return element
    return Unrecognised(
        reason="nested too deeply",
        phone_number_id=element.phone_number_id,
        waba_id=element.waba_id,
    )


def _elements(document: dict[str, Any]) -> Iterator[WebhookElement]:
    if document.get("object") != _OBJECT:
        yield Unrecognised(reason="not about a WhatsApp account", raw=document)
        return
    for entry in items_of(document.get("entry")):
        if not isinstance(entry, dict) or not isinstance(entry.get("changes"), list):
            yield Unrecognised(reason="entry without changes", raw=entry)
            continue
        waba_id, at = identifier(entry.get("id")), moment(entry.get("time"))
        for change in entry["changes"]:
            yield from _change(change, waba_id=waba_id, at=at)


def _change(change: Any, *, waba_id: str | None, at: datetime | None) -> Iterator[WebhookElement]:
    field = identifier(mapping(change).get("field"))
    if field is None:
        yield Unrecognised(reason="change without field", waba_id=waba_id, raw=change)
        return
    value = change.get("value")
    number = identifier(mapping(mapping(value).get("metadata")).get("phone_number_id"))
    if field != _MESSAGES:
        facts = facts_of(field, value)
        yield FieldChanged(
            waba_id=account_of(field, value) or waba_id,
            phone_number_id=number,
            field=field,
            reported_at=at or _own_time(facts),
            facts=facts,
            raw=value,
        )
    elif number is None:
        yield Unrecognised(
            reason="messages without a phone number id", waba_id=waba_id, field=field, raw=value
        )
    else:
        yield from _messages(value, waba_id=waba_id, number=number, at=at)


def _own_time(facts: Sequence[AccountFact]) -> datetime | None:
    """When the latest of them was, where each tells its own: about people Meta dates no entry."""
    times = [
        fact.at if isinstance(fact, CallReported | PreferenceReported) else None for fact in facts
    ]
    known = [at for at in times if at is not None]
    return max(known) if known and len(known) == len(times) else None


def _messages(
    value: dict[str, Any], *, waba_id: str | None, number: str, at: datetime | None
) -> Iterator[WebhookElement]:
    """The elements of a `messages` change; statuses first, so that a reply finds its message."""
    statuses, messages = items_of(value.get("statuses")), items_of(value.get("messages"))
    contacts = Contacts(objects(value.get("contacts")))
    for status in statuses:
        read = _status(status, contacts=contacts, waba_id=waba_id, number=number)
        yield _or_unrecognised(read, number=number, raw=status)
    for message in messages:
        found = (
            inbound_of(
                message,
                contacts=contacts,
                is_only=len(messages) == 1,
                waba_id=waba_id,
                number=number,
            )
            if isinstance(message, dict)
            else "message that is no object"
        )
        yield _or_unrecognised(found, number=number, raw=message)
    if errors := failures(value.get("errors")):
        yield TroubleReported(
            waba_id=waba_id, phone_number_id=number, errors=errors, reported_at=at, raw=value
        )
    elif not statuses and not messages:
        yield Unrecognised(
            reason="nothing in it", phone_number_id=number, field=_MESSAGES, raw=value
        )


def _or_unrecognised(read: WebhookElement | str, *, number: str, raw: Any) -> WebhookElement:
    if isinstance(read, str):
        return Unrecognised(reason=read, phone_number_id=number, field=_MESSAGES, raw=raw)
    return read


def _status(
    status: Any, *, contacts: Contacts, waba_id: str | None, number: str
) -> StatusReported | str:
    """The status as an element, or the reason why it is none."""
    found = mapping(status)
    wamid, at = identifier(found.get("id")), moment(found.get("timestamp"))
    if wamid is None:
        return "status without message id"
    if at is None:
        return "status without a believable timestamp"
    name = identifier(found.get("status")) or "none"
    status_now = _STATUSES.get(name)
    if status_now is None:
        return f"status {scrub(name)[:_MAX_SHOWN_CHARACTERS]!r} is not known"
    wa_id, user_id = recipient_of(found)
    # Since 2026 the recipient may stand among the contacts, with the name that is missing here.
    known_wa_id, known_user_id = names_in(contacts.of((wa_id, user_id)))
    return StatusReported(
        waba_id=waba_id,
        phone_number_id=number,
        wamid=wamid,
        status=status_now,
        occurred_at=at,
        wa_id=wa_id or known_wa_id,
        user_id=user_id or known_user_id,
        echo=parse_callback_data(found.get("biz_opaque_callback_data")),
        errors=failures(found.get("errors")),
        pricing=mapping(found.get("pricing")) or None,
        raw=found,
    )
