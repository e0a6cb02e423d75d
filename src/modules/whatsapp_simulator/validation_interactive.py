"""Meta's checks of interactive messages: shapes and lengths per kind.

Source: Meta, Cloud API interactive message reference.
"""

from collections.abc import Callable
from typing import Any

from whatsapp_simulator.graph_errors import GraphError
from whatsapp_simulator.validation_rules import (
    exactly_one,
    given,
    items,
    named,
    one_of,
    required,
    section,
    text,
    unexpected,
    url,
)

_MAX_BODY = 1024
_MAX_LONG_BODY = 4096
_MAX_HEADER = 60
_MAX_FOOTER = 60
_MAX_LABEL = 20
_MAX_BUTTONS = 3
_MAX_BUTTON_ID = 256
_MAX_SECTIONS = 10
_MAX_ROWS = 10
_MAX_SECTION_TITLE = 24
_MAX_ROW_ID = 200
_MAX_ROW_TITLE = 24
_MAX_ROW_DESCRIPTION = 72
_MAX_PRODUCTS = 30
_MIN_CARDS, _MAX_CARDS = 2, 10
_MAX_CARD_BODY = 160
_MAX_CARD_LINE_BREAKS = 2
_MAX_FLOW_LABEL = 30
_MAX_CALL_MINUTES = 43_200
_HEADERS = frozenset({"text", "image", "video", "document"})
_NAMED_ACTIONS = {
    "location_request_message": "send_location",
    "catalog_message": "catalog_message",
    "address_message": "address_message",
    "call_permission_request": "call_permission_request",
    "voice_call": "voice_call",
    "request_contact_info": "request_contact_info",
    "order_details": "review_and_pay",
    "order_status": "review_order",
}
_FLOW_ACTIONS = frozenset({"navigate", "data_exchange"})
_FLOW_MODES = frozenset({"draft", "published"})
_WITHOUT_BODY = frozenset(
    {
        *("product", "call_permission_request", "request_contact_info", "voice_call"),
        *("order_details", "order_status"),
    }
)
_SHORT_BODIES = frozenset({"button", "cta_url", "carousel", "location_request_message"})
"""Of which Meta names the shorter limit; where it names none, the longer one holds."""


def check_interactive(content: dict[str, Any]) -> None:
    """Raise Meta's code for the first thing wrong in an `interactive` object."""
    kind = required(content, "type", within="interactive")
    check = _CHECKS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise GraphError(131009, "Parameter 'interactive.type' is not valid")
    _check_frame(content, kind)
    action = content.get("action")
    if action is None and kind == "carousel":
        raise GraphError(131008, "Parameter 'interactive.action' is mandatory")
    check(content, section(content, "action"))


def _check_frame(content: dict[str, Any], kind: str) -> None:
    if kind not in _WITHOUT_BODY or given(content, "body"):
        body = section(content, "body")
        most = _MAX_BODY if kind in _SHORT_BODIES else _MAX_LONG_BODY
        text(body.get("text"), "interactive['body']['text']", most=most)
    if given(content, "footer"):
        text(section(content, "footer").get("text"), "interactive['footer']", most=_MAX_FOOTER)
    if given(content, "header"):
        _check_header(section(content, "header"), only_text=kind in {"list", "product_list"})


def _check_header(header: dict[str, Any], *, only_text: bool) -> None:
    kind = required(header, "type", within="header")
    one_of(kind, {"text"} if only_text else _HEADERS, "header['type']")
    if kind == "text":
        text(header.get("text"), "interactive['header']['text']", most=_MAX_HEADER)
        return
    media = section(header, kind)
    exactly_one(media, ("id", "link"), within=f"header.{kind}")


def _check_buttons(_content: dict[str, Any], action: dict[str, Any]) -> None:
    titles: set[str] = set()
    for button in items(action, "buttons", within="action", most=_MAX_BUTTONS):
        named(button, "type", "reply", within="button")
        reply = section(button, "reply")
        text(reply.get("id"), "button['reply']['id']", most=_MAX_BUTTON_ID)
        titles.add(text(reply.get("title"), "button['reply']['title']", most=_MAX_LABEL))
    if len(titles) < len(action["buttons"]):
        raise GraphError(131009, "Duplicated titles among buttons")


def _check_list(_content: dict[str, Any], action: dict[str, Any]) -> None:
    text(action.get("button"), "action['button']", most=_MAX_LABEL)
    sections = items(action, "sections", within="action", most=_MAX_SECTIONS)
    ids: list[str] = []
    for part in sections:
        if len(sections) > 1 or part.get("title"):
            text(part.get("title"), "section['title']", most=_MAX_SECTION_TITLE)
        for row in items(part, "rows", within="section"):
            ids.append(text(row.get("id"), "row['id']", most=_MAX_ROW_ID))
            text(row.get("title"), "row['title']", most=_MAX_ROW_TITLE)
            if row.get("description"):
                text(row["description"], "row['description']", most=_MAX_ROW_DESCRIPTION)
    if len(ids) > _MAX_ROWS:
        raise GraphError(131009, f"Total row count exceeds the maximum of {_MAX_ROWS}")
    if len(set(ids)) < len(ids):
        raise GraphError(131009, "Duplicated row ids")


def _parameters(action: dict[str, Any], name: str) -> dict[str, Any]:
    named(action, "name", name, within="action")
    return section(action, "parameters")


def _check_cta_url(_content: dict[str, Any], action: dict[str, Any]) -> None:
    parameters = _parameters(action, "cta_url")
    text(parameters.get("display_text"), "parameters['display_text']", most=_MAX_LABEL)
    url(parameters.get("url"), "parameters['url']")


def _check_flow(_content: dict[str, Any], action: dict[str, Any]) -> None:
    parameters = _parameters(action, "flow")
    text(parameters.get("flow_message_version"), "parameters['flow_message_version']")
    text(parameters.get("flow_cta"), "parameters['flow_cta']", most=_MAX_FLOW_LABEL)
    exactly_one(parameters, ("flow_id", "flow_name"), within="parameters")
    if given(parameters, "flow_action"):
        one_of(parameters["flow_action"], _FLOW_ACTIONS, "parameters['flow_action']")
    if given(parameters, "mode"):
        one_of(parameters["mode"], _FLOW_MODES, "parameters['mode']")


def _check_product(_content: dict[str, Any], action: dict[str, Any]) -> None:
    text(action.get("catalog_id"), "action['catalog_id']")
    text(action.get("product_retailer_id"), "action['product_retailer_id']")


def _check_product_list(content: dict[str, Any], action: dict[str, Any]) -> None:
    section(content, "header")
    text(action.get("catalog_id"), "action['catalog_id']")
    count = 0
    for part in items(action, "sections", within="action", most=_MAX_SECTIONS):
        for product in items(part, "product_items", within="section"):
            text(product.get("product_retailer_id"), "product['product_retailer_id']")
            count += 1
    if count > _MAX_PRODUCTS:
        raise GraphError(131009, f"More than {_MAX_PRODUCTS} products")


def _check_carousel(content: dict[str, Any], action: dict[str, Any]) -> None:
    unexpected(content, "header", "footer", within="interactive")
    cards = items(action, "cards", within="action", least=_MIN_CARDS, most=_MAX_CARDS)
    for card in cards:
        kind = required(card, "type", within="card")
        check = _CARDS.get(kind) if isinstance(kind, str) else None
        if check is None:
            raise GraphError(131009, "Parameter 'card.type' is not valid")
        check(card, section(card, "action"))
    indices = [_index_of(card) for card in cards]
    if len(set(indices)) < len(cards):
        raise GraphError(131009, "Duplicated 'card_index'")
    if any(_kind_of(card) != _kind_of(cards[0]) for card in cards):
        raise GraphError(131009, "All cards must be of one kind, with the same buttons")


def _index_of(card: dict[str, Any]) -> int:
    index = required(card, "card_index", within="card")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < _MAX_CARDS:
        raise GraphError(131009, "Parameter 'card_index' must count the cards from 0")
    return index


def _kind_of(card: dict[str, Any]) -> tuple[Any, ...]:
    """What is the same on every card: type, header, the catalogue, number of replies."""
    action, header = card["action"], card.get("header") or {}
    replies = len(action.get("buttons") or ())
    return card["type"], header.get("type"), action.get("catalog_id"), replies


def _check_media_card(card: dict[str, Any], action: dict[str, Any]) -> None:
    header = section(card, "header")
    kind = one_of(required(header, "type", within="header"), {"image", "video"}, "header['type']")
    exactly_one(section(header, kind), ("id", "link"), within=f"header.{kind}")
    if given(card, "body"):
        words = section(card, "body").get("text")
        if text(words, "card['body']['text']", most=_MAX_CARD_BODY).count("\n") > (
            _MAX_CARD_LINE_BREAKS
        ):
            raise GraphError(131009, f"More than {_MAX_CARD_LINE_BREAKS} line breaks")
    if not given(action, "buttons"):
        _check_cta_url(card, action)
        return
    unexpected(action, "name", within="action")
    for button in items(action, "buttons", within="action", most=_MAX_BUTTONS):
        named(button, "type", "quick_reply", within="button")
        reply = section(button, "quick_reply")
        for key in ("id", "title"):
            text(reply.get(key), f"quick_reply['{key}']", most=_MAX_LABEL)


_CARDS: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "cta_url": _check_media_card,
    "product": _check_product,
}


def _check_named_action(content: dict[str, Any], action: dict[str, Any]) -> None:
    kind = content["type"]
    named(action, "name", _NAMED_ACTIONS[kind], within="action")
    if kind == "address_message":
        text(section(action, "parameters").get("country"), "parameters['country']")
    if kind in {"order_details", "order_status"}:
        section(action, "parameters")
    if kind == "voice_call" and given(action, "parameters"):
        _check_voice_call(section(action, "parameters"))


def _check_voice_call(parameters: dict[str, Any]) -> None:
    if given(parameters, "display_text"):
        text(parameters["display_text"], "parameters['display_text']", most=_MAX_LABEL)
    minutes = parameters["ttl_minutes"] if given(parameters, "ttl_minutes") else 1
    is_whole = isinstance(minutes, int | float) and minutes == int(minutes)
    if isinstance(minutes, bool) or not is_whole or not 1 <= minutes <= _MAX_CALL_MINUTES:
        raise GraphError(131009, "Parameter 'ttl_minutes' is not valid")


_CHECKS: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "button": _check_buttons,
    "list": _check_list,
    "cta_url": _check_cta_url,
    "flow": _check_flow,
    "product": _check_product,
    "product_list": _check_product_list,
    "carousel": _check_carousel,
    **dict.fromkeys(_NAMED_ACTIONS, _check_named_action),
}
