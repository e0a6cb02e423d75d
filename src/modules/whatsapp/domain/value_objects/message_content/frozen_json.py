"""JSON that cannot change any more and that PostgreSQL and Meta can both take."""

import json
import re
from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from shared.kernel.errors import InvalidInput

Json: TypeAlias = bool | int | float | str | tuple["Json", ...] | Mapping[str, "Json"] | None
"""A frozen JSON value: objects are read-only mappings, arrays are tuples."""

MAX_DEPTH = 64  # far more than any message has, far less than Python's recursion limit
MAX_MAGNITUDE = 2**63  # what every JSON reader on the way takes without losing digits
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_SHOWN_KEY = re.compile(r"[a-z_]{1,40}")


class Fault(Enum):
    """What Meta tells apart by codes."""

    WRONG = auto()
    MISSING = auto()
    TOO_LONG = auto()
    UNEXPECTED = auto()


class InvalidContent(InvalidInput):
    """Meta would refuse this content; `field` is its JSON path from the root of the message.

    The detail states the limit and what was found by length or type, never the text itself.
    """

    code = "invalid_content"
    title = "The content of the message is not valid"

    def __init__(
        self, detail: str = "", *, field: str | None = None, fault: Fault = Fault.WRONG
    ) -> None:
        super().__init__(detail, field=field)
        self.fault = fault


def kind_of(value: object) -> str:
    """The JSON name of a value's type, or Python's where it is not JSON."""
    for kinds, name in _KINDS:
        if isinstance(value, kinds):
            return name
    return "null" if value is None else f"a Python {type(value).__name__}"


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a text"),
    (Mapping, "an object"),
    ((list, tuple), "an array"),
)


def freeze(value: object, at: str, depth: int = 0) -> Json:
    """A deep, read-only copy of a JSON value; `InvalidContent` for what is not JSON.

    Whole numbers become integers (10080.0 is 10080), so that a value is the same after a trip
    through PostgreSQL's jsonb. Refused, since jsonb or UTF-8 have no place for them: NUL, lone
    surrogates, NaN, infinities and numbers beyond 64 bits.
    """
    if isinstance(value, str):
        return _text(value, at)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value, at)
    if depth >= MAX_DEPTH:
        raise InvalidContent(f"nested deeper than {MAX_DEPTH} levels", field=at)
    if isinstance(value, Mapping):
        return _object(cast("Mapping[object, object]", value), at, depth)
    if isinstance(value, list | tuple):
        items = cast("list[object]", value)
        return tuple(freeze(item, f"{at}[{i}]", depth + 1) for i, item in enumerate(items))
    raise InvalidContent(f"a JSON value is needed, found {kind_of(value)}", field=at)


def thaw(value: Json) -> Any:
    """A deep copy of plain dicts and lists, as `json.loads` would give it."""
    # By elimination: to ask whether something is a Mapping costs more than all the rest.
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return {key: thaw(item) for key, item in value.items()}


def canonical(value: Json) -> str:
    """The one spelling of a JSON value: keys sorted, no spaces, letters unescaped."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(
    sort_keys=True,
    separators=(",", ":"),
    ensure_ascii=False,
    allow_nan=False,
    default=dict,  # a read-only mapping
)


def freeze_anything(value: object, depth: int = 0) -> Json:
    """A deep, read-only copy that refuses nothing, for what people and Meta send us.

    What `freeze` refuses is made harmless instead: the replacement character for NUL and half
    surrogates, null for numbers out of bounds, what is nested too deep and what is not JSON.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _harmless(value)
    if isinstance(value, int | float):
        return _whole_if_equal(value) if _fits(value) else None
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        named = ((_harmless(str(key)), freeze_anything(item, depth + 1)) for key, item in items)
        return MappingProxyType(dict(named))
    if depth < MAX_DEPTH and isinstance(value, list | tuple):
        return tuple(freeze_anything(item, depth + 1) for item in cast("list[object]", value))
    return None


def _object(value: Mapping[object, object], at: str, depth: int) -> Json:
    frozen: dict[str, Json] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidContent("the keys of an object must be texts", field=at)
        # A stranger's key may hold anything; only what looks like one of Meta's is repeated.
        below = f"{at}.{key if _SHOWN_KEY.fullmatch(key) else '?'}"
        frozen[_text(key, below)] = freeze(item, below, depth + 1)
    return MappingProxyType(frozen)


def _text(value: str, at: str) -> str:
    if "\0" in value:
        raise InvalidContent("a text must not hold a NUL character", field=at)
    if not value.isascii() and _HALF_PAIR.search(value):
        raise InvalidContent("a text must not hold half a surrogate pair", field=at)
    return value


def _harmless(value: str) -> str:
    return _UNSTORABLE.sub("\ufffd", value) if _UNSTORABLE.search(value) else value


def _number(value: float, at: str) -> int | float:
    if not _fits(value):
        raise InvalidContent("a number must be finite and fit 64 bits", field=at)
    return _whole_if_equal(value)


def _fits(value: float) -> bool:
    # Not a number, infinities and integers of any size all compare; `isfinite` would overflow.
    return -MAX_MAGNITUDE <= value < MAX_MAGNITUDE


def _whole_if_equal(value: float) -> int | float:
    return int(value) if value == int(value) else value
