"""The structure of a template message (Meta, Cloud API reference).

Only Meta knows which parameters an approved template takes, so this checks what holds for all:
the shape of what is known. Component, button and parameter kinds that are not named here pass as
objects, since Meta adds them often. Kinds are taken in either case, as clients write both.
"""

import re

from whatsapp.domain.value_objects.message_content.rules import (
    Fields,
    Items,
    Matching,
    Rule,
    Text,
    Variant,
    Whole,
)
from whatsapp.domain.value_objects.message_content.simple_types import (
    LOCATION,
    media,
)

MAX_NAME_CHARACTERS = 512
MAX_CARDS = 10
MAX_BUTTONS = 10

_NAME = Matching(
    re.compile(r"[a-z0-9_]+"), "lower-case letters, digits and underscores", MAX_NAME_CHARACTERS
)
_LANGUAGE = Matching(re.compile(r"[A-Za-z]{2,3}(?:[_-][A-Za-z0-9]{2,4}){0,2}"), "a code like en_US")


def _parameter(key: str, rule: Rule) -> Fields:
    return Fields(required={key: rule}, optional={"parameter_name": Text()})


_PARAMETERS = Items(
    Variant(
        {
            "text": _parameter("text", Text()),
            "currency": _parameter(
                "currency",
                Fields(
                    required={"code": Text(3), "amount_1000": Whole(-(2**62), 2**62, or_text=True)},
                    optional={"fallback_value": Text()},
                ),
            ),
            "date_time": _parameter("date_time", Fields(optional={"fallback_value": Text()})),
            "image": _parameter("image", media({})),
            "video": _parameter("video", media({})),
            "document": _parameter("document", media({"filename": Text()})),
            "location": _parameter("location", LOCATION),
            "payload": _parameter("payload", Text(least=0)),
            "coupon_code": _parameter("coupon_code", Text()),
            "action": _parameter("action", Fields()),
        },
        otherwise=Fields(),
        fold_case=True,
    ),
    least=0,
)

_SIMPLE = Fields(optional={"parameters": _PARAMETERS})
_BUTTON = Fields(
    required={"sub_type": Text(), "index": Whole(0, MAX_BUTTONS - 1, or_text=True)},
    optional={"parameters": _PARAMETERS},
)
_FLAT_COMPONENTS = Items(
    Variant({"button": _BUTTON}, otherwise=_SIMPLE, fold_case=True),
    least=0,
)
_CAROUSEL = Fields(
    required={
        "cards": Items(
            Fields(
                required={
                    "card_index": Whole(0, MAX_CARDS - 1, or_text=True),
                    "components": _FLAT_COMPONENTS,
                }
            ),
            most=MAX_CARDS,
        )
    }
)
_COMPONENTS = Items(
    Variant({"button": _BUTTON, "carousel": _CAROUSEL}, otherwise=_SIMPLE, fold_case=True),
    least=0,
)

TEMPLATE = Fields(
    required={"name": _NAME, "language": Fields(required={"code": _LANGUAGE})},
    optional={"components": _COMPONENTS},
)
