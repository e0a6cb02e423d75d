"""Fields other than messages: one change's value in, what it says in our terms out.

What is not read here is kept as it came; new fields and events need nothing to be kept. (Meta,
WhatsApp webhook reference; older events are read beside those that replaced them.)
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from whatsapp.domain.account import (
    MAX_REPORTED_CHARACTERS,
    AccountFact,
    AccountReported,
    CallReported,
    NumberReported,
    PreferenceReported,
    Stop,
    TemplateReported,
)
from whatsapp.infrastructure.cloud_api.fields import (
    identifier,
    integer,
    mapping,
    moment,
    objects,
    person,
    text,
)
from whatsapp.infrastructure.cloud_api.people import Names, names_in

RAISED_MESSAGES_PER_SECOND: Final = 1000
"""What a number may send after `THROUGHPUT_UPGRADE` (Meta, Cloud API, throughput)."""

_ACCOUNT_UPDATE: Final = "account_update"
_Value = Mapping[str, Any]
_STOPS: Final[Mapping[tuple[str, str | None], Stop]] = {
    ("DISABLED_UPDATE", "DISABLE"): Stop.DISABLED,
    ("ACCOUNT_DELETED", None): Stop.DELETED,
    ("PARTNER_REMOVED", None): Stop.DISCONNECTED,
    ("PARTNER_APP_UNINSTALLED", None): Stop.DISCONNECTED,
    ("ACCOUNT_OFFBOARDED", None): Stop.DISCONNECTED,
}
_ENDS: Final[Mapping[tuple[str, str | None], Stop]] = {
    ("DISABLED_UPDATE", "REINSTATE"): Stop.DISABLED,
    ("PARTNER_ADDED", None): Stop.DISCONNECTED,
    ("PARTNER_APP_INSTALLED", None): Stop.DISCONNECTED,
    ("ACCOUNT_RECONNECTED", None): Stop.DISCONNECTED,
}
_FLAGGED, _UNFLAGGED, _FASTER = "FLAGGED", "UNFLAGGED", "THROUGHPUT_UPGRADE"
_LOW: Final = "RED"
_KEY_OF_QUALITY_EVENT: Final = {
    _FLAGGED: "quality_flag",
    _UNFLAGGED: "quality_flag",
    _FASTER: "throughput",
}
"""Each kind by itself: an older flag counts though the rate was raised since, and vice versa."""


def account_of(field: str, value: object) -> str | None:
    """The account that a change is about, where its value names one.

    Then what stands around it is the partner's own, not that of the customer. (Meta, webhook
    reference, account_update: `PARTNER_*`.)
    """
    if field != _ACCOUNT_UPDATE:
        return None
    return identifier(mapping(mapping(value).get("waba_info")).get("waba_id"))


def facts_of(field: str, value: object) -> tuple[AccountFact, ...]:
    """What a change says; nothing where nobody knows. Never raises."""
    read = _READERS.get(field)
    return () if read is None else tuple(read(mapping(value)))


def _template(
    value: _Value,
    *,
    status: object = None,
    reason: object = None,
    quality: object = None,
    category: object = None,
) -> Iterator[AccountFact]:
    name, language = _short(value.get("message_template_name")), _language(value)
    if name is None or language is None:
        return
    template_id = value.get("message_template_id")
    yield TemplateReported(
        name=name,
        language=language,
        template_id=identifier(str(template_id) if isinstance(template_id, int) else template_id),
        status=_short(status),
        reason=_short(reason),
        quality=_short(quality),
        category=_short(category),
    )


def _language(value: _Value) -> str | None:
    """With an underscore, as the API takes it; webhooks have been seen to write a hyphen."""
    language = _short(value.get("message_template_language"))
    return language and language.replace("-", "_")


def _template_status(value: _Value) -> Iterator[AccountFact]:
    reason = value.get("reason")
    info = mapping(value.get("other_info")) or mapping(value.get("rejection_info"))
    return _template(
        value,
        status=value.get("event"),
        reason=info.get("title") or info.get("reason") or reason,
        category=value.get("message_template_category"),
    )


def _template_quality(value: _Value) -> Iterator[AccountFact]:
    return _template(value, quality=value.get("new_quality_score"))


def _template_category(value: _Value) -> Iterator[AccountFact]:
    return _template(value, category=value.get("new_category"))


def _quality(value: _Value) -> Iterator[AccountFact]:
    event, display = _short(value.get("event")), _digits(value.get("display_phone_number"))
    if event is not None:
        yield NumberReported(
            key=_KEY_OF_QUALITY_EVENT.get(event, "quality_event"),
            value=event,
            display_phone_number=display,
            quality_rating=_LOW if event == _FLAGGED else None,
            # The flag ends when the quality is better, and also when the limit was lowered for it.
            ended_rating=_LOW if event == _UNFLAGGED else None,
            messages_per_second=RAISED_MESSAGES_PER_SECOND if event == _FASTER else None,
        )
    limit = value.get("max_daily_conversations_per_business") or value.get("current_limit")
    yield from _limit(limit, display)


def _capability(value: _Value) -> Iterator[AccountFact]:
    limit = value.get("max_daily_conversations_per_business")
    if limit is None:
        limit = value.get("max_daily_conversation_per_phone")
    return _limit(limit, None)


def _limit(limit: object, display: str | None) -> Iterator[AccountFact]:
    """How many people may be written to first in a day: a number, or the name of a tier."""
    shown = str(limit) if integer(limit) is not None else _short(limit)
    if shown is not None:
        yield NumberReported(key="messaging_limit", value=shown, display_phone_number=display)


def _name(value: _Value) -> Iterator[AccountFact]:
    decision = _short(value.get("decision"))
    if decision is not None:
        display = _digits(value.get("display_phone_number"))
        yield NumberReported(key="name_decision", value=decision, display_phone_number=display)


def _username(value: _Value) -> Iterator[AccountFact]:
    status = _short(value.get("status"))
    if status is not None:
        display = _digits(value.get("display_phone_number"))
        yield NumberReported(key="username_status", value=status, display_phone_number=display)


def _security(value: _Value) -> Iterator[AccountFact]:
    event = _short(value.get("event"))
    if event is not None:
        display = _digits(value.get("display_phone_number"))
        yield NumberReported(key="security", value=event, display_phone_number=display)


def _review(value: _Value) -> Iterator[AccountFact]:
    decision = _short(value.get("decision"))
    if decision is not None:
        yield NumberReported(key="account_review", value=decision)


def _alert(value: _Value) -> Iterator[AccountFact]:
    kind = _short(value.get("alert_type"))
    if kind is not None:
        yield NumberReported(key="alert", value=kind)


def _account(value: _Value) -> Iterator[AccountFact]:
    event = _short(value.get("event"))
    if event is None:
        return
    state = _short(mapping(value.get("ban_info")).get("waba_ban_state"))
    occasion = (event, state)
    shown = event if state is None else f"{event} {state}"
    stop = _STOPS.get(occasion) or _ENDS.get(occasion)
    if stop is None:
        yield NumberReported(key="account_event", value=shown)
        return
    # Numbers that a business also has in its app are disconnected one by one; a ban is for all.
    number = _digits(value.get("phone_number")) if stop is Stop.DISCONNECTED else None
    yield AccountReported(
        event=shown, stop=stop, is_over=occasion in _ENDS, display_phone_number=number
    )


def _preferences(value: _Value) -> Iterator[AccountFact]:
    for one in objects(value.get("user_preferences")):
        wa_id, user_id = _names(value, one.get("wa_id"), one.get("user_id"))
        wish, category = one.get("value"), _short(one.get("category"))
        if wish in {"stop", "resume"} and category and (wa_id or user_id):
            yield PreferenceReported(
                wa_id=wa_id,
                user_id=user_id,
                category=category,
                is_wanted=wish == "resume",
                at=_time(one),
            )


def _calls(value: _Value) -> Iterator[AccountFact]:
    """Who has called; how a call went on, and calls of ours, open no window."""
    for one in objects(value.get("calls")):
        wa_id, user_id = _names(value, one.get("from"), one.get("from_user_id"))
        is_theirs = one.get("direction") == "USER_INITIATED" and one.get("event") == "connect"
        at = _time(one)
        if is_theirs and at is not None and (wa_id or user_id):
            yield CallReported(wa_id=wa_id, user_id=user_id, at=at)


def _names(value: _Value, *ids: object) -> Names:
    """The names among these ids, or where there is none, those of the only contact beside them."""
    names = person(*ids)
    contacts = objects(value.get("contacts"))
    return names_in(contacts[0]) if names == (None, None) and len(contacts) == 1 else names


def _time(value: _Value) -> datetime | None:
    return moment(value.get("timestamp"))


def _short(value: object) -> str | None:
    """A text of Meta's that is short enough to be kept in a column."""
    found = text(value)
    return found and found[:MAX_REPORTED_CHARACTERS]


def _digits(value: object) -> str | None:
    digits = "".join(c for c in text(value) or "" if c in "0123456789")
    return digits or None


_READERS: Final[Mapping[str, Callable[[_Value], Iterator[AccountFact]]]] = {
    "message_template_status_update": _template_status,
    "message_template_quality_update": _template_quality,
    "template_category_update": _template_category,
    "phone_number_quality_update": _quality,
    "phone_number_name_update": _name,
    "business_capability_update": _capability,
    "business_username_update": _username,
    "security": _security,
    "account_review_update": _review,
    "account_alerts": _alert,
    _ACCOUNT_UPDATE: _account,
    "user_preferences": _preferences,
    "calls": _calls,
}
READ_FIELDS: Final = frozenset(_READERS)
"""The fields that change something here; all others are kept."""
