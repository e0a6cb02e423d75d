"""What callers give to repositories, looked at before anything is sent.

A value of another type would fail somewhere inside, or as a fault of ours in PostgreSQL, and take
the caller's transaction with it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from shared.infrastructure.database.driver_errors import InvalidValue
from shared.kernel.errors import ensure_type

ValueT = TypeVar("ValueT")


def given(kind: type[ValueT], value: Any, field: str) -> ValueT:
    """`value`, if it is a `kind`; InvalidValue otherwise, which names the types alone."""
    ensure_type(value, kind, InvalidValue, field=field)
    return value  # type: ignore[no-any-return]  # just looked at


def all_given(kind: type[ValueT], values: Any, field: str) -> Sequence[ValueT]:
    """`values`, if it is a sequence of `kind` alone; InvalidValue otherwise."""
    if isinstance(values, str | bytes):
        raise InvalidValue(f"A sequence of {kind.__name__} is needed", field=field)
    found: Sequence[Any] = given(Sequence, values, field)  # type: ignore[type-abstract]  # asked, not made
    if not {*map(type, found)} <= {kind}:  # Nearly always they are of the kind itself.
        for value in found:
            given(kind, value, field)
    return found


def zoned(values: dict[str, Any]) -> dict[str, Any]:
    """`values`, if none is a time without its zone, which would count as one of this machine's."""
    for name, value in values.items():
        if isinstance(value, datetime) and value.utcoffset() is None:
            raise InvalidValue("A time needs its zone", field=name)
    return values


def limit_given(limit: Any, most: int) -> int:
    """At most `most`; InvalidValue where it is no number of rows."""
    rows = given(int, limit, "limit")
    if rows < 0 or isinstance(limit, bool):
        raise InvalidValue("A limit is 0 or more", field="limit")
    return min(rows, most)
