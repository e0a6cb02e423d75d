"""Makes what Meta signed fit for PostgreSQL, which holds neither NUL nor half a surrogate pair.

Refusing it would fail the whole webhook for one character, and Meta would send it again for days.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import orjson

from shared.infrastructure.database import InvalidValue

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_PLAIN_JSON: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_MAX_INTEGER: Final = 2**31 - 1
_MAX_SMALLINT: Final = 2**15 - 1


def storable_text(text: str | None) -> str | None:
    """`text` with U+FFFD for each character that cannot be stored."""
    return text and _UNSTORABLE.sub(REPLACEMENT, text)


def storable_texts(texts: Sequence[str]) -> Sequence[str]:
    """As `storable_text` for many, which are looked at in one go: hardly ever is anything amiss."""
    if _UNSTORABLE.search("".join(texts)) is None:
        return texts
    return [_UNSTORABLE.sub(REPLACEMENT, text) for text in texts]


def storable_json(value: Any) -> Any:
    """A JSON value with U+FFFD for each character that cannot be stored, in keys as well."""
    text = _written(value)
    return value if _is_storable(text) else json.loads(_mended(text))


def json_text(value: Any) -> str:
    """The text of a JSON value, with U+FFFD for each character that cannot be stored."""
    text = _written(value)
    return text if _is_storable(text) else _mended(text)


def _written(value: Any) -> str:
    try:
        written = orjson.dumps(value, option=_PLAIN_JSON)
        if b"null" not in written:  # Which is also what it makes of NaN.
            return written.decode()
    except TypeError:  # It is stricter than PostgreSQL about keys, integers and characters.
        pass
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError):
        raise InvalidValue from None


def _is_storable(text: str) -> bool:
    return "\\u0000" not in text and _UNSTORABLE.search(text) is None


def _mended(text: str) -> str:
    return _UNSTORABLE.sub(REPLACEMENT, _ESCAPED_NUL.sub(rf"\g<1>{REPLACEMENT}", text))


def storable_code(code: int | None) -> int | None:
    """An error code of Meta's; None for a number that is none."""
    return code if code is None or abs(code) <= _MAX_INTEGER else None


def storable_attempt(attempt: int | None) -> int | None:
    """The number of an attempt that Meta echoed; None for a number that is none of ours."""
    return attempt if attempt is None or 0 <= attempt <= _MAX_SMALLINT else None
