"""JSON as it goes over the wire, of values as PostgreSQL gives them back."""

import json
from typing import Any

import orjson


def json_bytes(value: Any) -> bytes:
    """The value as JSON in UTF-8, with whole numbers of any size.

    PostgreSQL's jsonb writes 1e300 with all of its digits, which the fast writer refuses: it knows
    64 bits and 254 levels. Somebody's odd number must not stop what is told behind it.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
