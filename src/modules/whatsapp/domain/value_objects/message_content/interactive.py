"""Limits of interactive messages, one entry per sub-type (Meta, Cloud API reference)."""

from collections.abc import Mapping
from typing import Any

from whatsapp.domain.value_objects.message_content.frozen_json import Fault, InvalidContent
from whatsapp.domain.value_objects.message_content.rules import (
    Choice,
    Fields,
    Items,
    Link,
    Rule,
    Text,
    Variant,
    Whole,
    With,
    alike,
    distinct,
    in_all,
)
from whatsapp.domain.value_objects.message_content.simple_types import media

MAX_CARD_LINE_BREAKS = 2

_ID = Text(512)
_LABEL = Text(20)
_BODY = Fields(required={"text": Text(1024)})
# What Meta states for lists; also where it states nothing, so that nothing good is refused.
_LONG_BODY = Fields(required={"text": Text(4096)})
_FOOTER = Fields(required={"text": Text(60)})

_HEADERS: dict[str, Rule] = {
    "text": Fields(required={"text": Text(60)}),
    "image": Fields(required={"image": media({})}),
    "video": Fields(required={"video": media({})}),
    "document": Fields(required={"document": media({"filename": Text()})}),
}


def _header(*kinds: str) -> Variant:
    return Variant({kind: _HEADERS[kind] for kind in kinds})


_ANY_HEADER = _header("text", "image", "video", "document")


def _named(name: str, **fields: Rule) -> Fields:
    """An action that must carry its own name."""
    return Fields(required={"name": Choice((name,)), **fields})


def _sub_type(action: Rule, *, body: Rule | None = None, **more: Rule) -> Fields:
    """The common envelope; a body is required where one is given, a header where `more` says."""
    required: dict[str, Rule] = {"action": action, **more}
    if body is not None:
        required["body"] = body
    optional: dict[str, Rule] = {"header": _ANY_HEADER, "body": _LONG_BODY, "footer": _FOOTER}
    return Fields(required, {key: rule for key, rule in optional.items() if key not in required})


def _titled_if_many(sections: Any, at: str) -> None:
    """With more than one section, each needs a title to be told apart."""
    for index, section in enumerate(sections):
        if len(sections) > 1 and not section.get("title"):
            raise InvalidContent(
                "is required where there is more than one section",
                field=f"{at}[{index}].title",
                fault=Fault.MISSING,
            )


def _few_lines(body: Any, at: str) -> None:
    breaks = body["text"].count("\n")
    if breaks > MAX_CARD_LINE_BREAKS:
        raise InvalidContent(
            f"{breaks} line breaks, at most {MAX_CARD_LINE_BREAKS}", field=f"{at}.text"
        )


def _same_buttons(cards: Any, at: str) -> None:
    """Every card has as many buttons of the same kind as the first one."""

    def buttons(card: Mapping[str, Any]) -> int:
        return len(card["action"].get("buttons") or ())

    for index, card in enumerate(cards):
        if buttons(card) != buttons(cards[0]):
            raise InvalidContent(
                "must have the same kind and number of buttons on every card",
                field=f"{at}[{index}].action",
            )


_BUTTONS = Items(
    Fields(
        required={
            "type": Choice(("reply",)),
            "reply": Fields(required={"id": Text(256), "title": _LABEL}),
        }
    ),
    most=3,
    laws=(distinct("reply", "title"),),
)

_ROW = Fields(
    required={"id": Text(200), "title": Text(24)},
    optional={"description": Text(72, least=0)},
)
_LIST_SECTIONS = Items(
    Fields(required={"rows": Items(_ROW)}, optional={"title": Text(24, least=0)}),
    most=10,
    laws=(in_all("rows", 10), _titled_if_many),
)

_PRODUCT = Fields(required={"product_retailer_id": _ID})
_PRODUCT_SECTIONS = Items(
    Fields(required={"product_items": Items(_PRODUCT)}, optional={"title": Text(24, least=0)}),
    most=10,
    laws=(in_all("product_items", 30), _titled_if_many),
)

_CTA_URL = _named("cta_url", parameters=Fields(required={"display_text": _LABEL, "url": Link()}))

_FLOW = _named(
    "flow",
    parameters=Fields(
        required={
            "flow_message_version": Text(10),
            "flow_cta": Text(30),  # sources say 20 to 30
        },
        optional={
            "flow_id": _ID,
            "flow_name": Text(),
            "flow_token": Text(least=0),
            "flow_action": Choice(("navigate", "data_exchange")),
            "flow_action_payload": Fields(required={"screen": Text()}, optional={"data": Fields()}),
            "mode": Choice(("draft", "published")),
        },
        exactly_one=("flow_id", "flow_name"),
    ),
)

_CARD_REPLIES = Items(
    Fields(
        required={
            "type": Choice(("quick_reply",)),
            "quick_reply": Fields(required={"id": _LABEL, "title": _LABEL}),
        }
    ),
    most=3,
)
_CARD_BODY = Fields(required={"text": Text(160)}, laws=(_few_lines,))
_CARDS = Items(
    Variant(
        {
            "cta_url": Fields(
                required={
                    "card_index": Whole(0, 9),
                    "header": _header("image", "video"),
                    "action": With(
                        "buttons",
                        present=Fields(required={"buttons": _CARD_REPLIES}, never=("name",)),
                        absent=_CTA_URL,
                    ),
                },
                optional={"body": _CARD_BODY},
            ),
            "product": Fields(
                required={
                    "card_index": Whole(0, 9),
                    "action": Fields(required={"product_retailer_id": _ID, "catalog_id": _ID}),
                },
            ),
        }
    ),
    least=2,
    most=10,
    laws=(
        distinct("card_index"),
        alike("type"),
        alike("header", "type"),
        alike("action", "catalog_id"),
        _same_buttons,
    ),
)

INTERACTIVE = Variant(
    {
        "button": _sub_type(Fields(required={"buttons": _BUTTONS}), body=_BODY),
        "list": Fields(
            required={
                "body": _LONG_BODY,
                "action": Fields(required={"button": _LABEL, "sections": _LIST_SECTIONS}),
            },
            optional={"header": _header("text"), "footer": _FOOTER},
        ),
        "cta_url": _sub_type(_CTA_URL, body=_BODY),
        "flow": _sub_type(_FLOW, body=_LONG_BODY),
        "product": _sub_type(Fields(required={"catalog_id": _ID, "product_retailer_id": _ID})),
        "product_list": _sub_type(
            Fields(required={"catalog_id": _ID, "sections": _PRODUCT_SECTIONS}),
            body=_LONG_BODY,
            header=_header("text"),
        ),
        "catalog_message": _sub_type(
            Fields(
                required={"name": Choice(("catalog_message",))},
                optional={
                    "parameters": Fields(optional={"thumbnail_product_retailer_id": _ID}),
                },
            ),
            body=_LONG_BODY,
        ),
        "carousel": Fields(
            required={"body": _BODY, "action": Fields(required={"cards": _CARDS})},
            never=("header", "footer"),
        ),
        "location_request_message": _sub_type(_named("send_location"), body=_BODY),
        "address_message": _sub_type(
            _named("address_message", parameters=Fields(required={"country": Text()})),
            body=_LONG_BODY,
        ),
        "call_permission_request": _sub_type(_named("call_permission_request")),
        "voice_call": _sub_type(
            Fields(
                required={"name": Choice(("voice_call",))},
                optional={
                    "parameters": Fields(
                        optional={"display_text": _LABEL, "ttl_minutes": Whole(1, 43_200)}
                    )
                },
            )
        ),
        "request_contact_info": _sub_type(_named("request_contact_info")),
        # Payments (India, Brazil, Singapore): the contents are the payment provider's to check.
        "order_details": _sub_type(_named("review_and_pay", parameters=Fields())),
        "order_status": _sub_type(_named("review_order", parameters=Fields())),
    }
)
