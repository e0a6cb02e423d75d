"""Identifiers: UUID version 7 (RFC 9562), so that rows made later sort later.

Within one process ids never go backwards, also when the wall clock does: a counter in the 12 bits
after the timestamp carries on from the last id.
"""

import os
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from uuid import UUID, SafeUUID

NIL: Final = UUID(int=0)
"""Before all ids, where a walk through them begins."""
MAX: Final = UUID(int=(1 << 128) - 1)
"""Behind all ids, where a walk back begins."""

_COUNTER_BITS = 12
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTERS = (1 << _COUNTER_BITS) - 1
_RANDOM = (1 << 62) - 1
_UPPER = 0x7 << 76 | 0b10 << 62
_state = {"millis": 0, "counter": 0}
_lock = threading.Lock()
_SAFETY: Final = SafeUUID.unknown
# UUID refuses assignments; its slots do not.
_allocate = object.__new__
_set_value, _set_safety = (vars(UUID)[slot].__set__ for slot in ("int", "is_safe"))


def _next_ticks(number: int) -> list[int]:
    """So many pairs of milliseconds and counter, as one integer each, greater than all before."""
    now = time.time_ns() // 1_000_000
    with _lock:
        if now > _state["millis"]:
            # Starting in the lower half leaves room to count within the same millisecond.
            first = now << _COUNTER_BITS | int.from_bytes(os.urandom(2), "big") & 0x7FF
        else:
            first = (_state["millis"] << _COUNTER_BITS | _state["counter"]) + 1
        last = first + number - 1
        _state.update(millis=last >> _COUNTER_BITS, counter=last & _COUNTERS)
    return list(range(first, last + 1))


def new_id() -> UUID:
    """A new UUIDv7, greater than all before it: 48 bits of ms, a 12-bit counter, 62 random bits."""
    return new_ids(1)[0]


def new_ids(number: int) -> list[UUID]:
    """So many new ids in order, at a tenth of the price of one by one."""
    made = [_allocate(UUID) for _ in range(number)]
    for ident, value in zip(made, _new_values(number), strict=True):
        # As `UUID(int=value)`, which looks at all its arguments and takes thrice as long.
        _set_value(ident, value)
        _set_safety(ident, _SAFETY)
    return made


def new_id_texts(number: int) -> list[str]:
    """So many new ids in their usual spelling, for where nobody needs anything else of them."""
    digits = [f"{value:032x}" for value in _new_values(number)]
    return [f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}" for d in digits]


def _new_values(number: int) -> list[int]:
    random = struct.unpack(f">{number}Q", os.urandom(8 * number))
    return [
        _UPPER | tick >> _COUNTER_BITS << 80 | (tick & _COUNTERS) << 64 | tail & _RANDOM
        for tick, tail in zip(_next_ticks(number), random, strict=True)
    ]


def time_of(ident: UUID) -> datetime:
    """When an id was made, to the millisecond, by the clock of whoever made it."""
    return _EPOCH + timedelta(milliseconds=ident.int >> 80)


@lru_cache(maxsize=1024)
def text_of(ident: UUID) -> str:
    """The usual spelling; remembered, as a batch of messages spells its channel again and again."""
    return str(ident)
