"""Makes what Meta signed fit for PostgreSQL, which holds neither NUL nor half a surrogate pair.

Refusing it would fail the whole webhook for one character, and Meta would send it again for days.
"""

import json
import re
from typing import Any, Final

from shared.infrastructure.database import InvalidValue

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_MAX_INTEGER: Final = 2**31 - 1
_MAX_SMALLINT: Final = 2**15 - 1


def storable_text(text: str | None) -> str | None:
    """`text` with U+FFFD for each character that cannot be stored."""
    return text and _UNSTORABLE.sub(REPLACEMENT, text)


def storable_json(value: Any) -> Any:
    """A JSON value with U+FFFD for each character that cannot be stored, in keys as well."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidValue from None
    if "\\u0000" not in text and _UNSTORABLE.search(text) is None:
        return value
    text = _ESCAPED_NUL.sub(rf"\g<1>{REPLACEMENT}", text)
    return json.loads(_UNSTORABLE.sub(REPLACEMENT, text))


def storable_code(code: int | None) -> int | None:
    """An error code of Meta's; None for a number that is none."""
    return code if code is None or abs(code) <= _MAX_INTEGER else None


def storable_attempt(attempt: int | None) -> int | None:
    """The number of an attempt that Meta echoed; None for a number that is none of ours."""
    return attempt if attempt is None or 0 <= attempt <= _MAX_SMALLINT else None
