"""Identifiers: UUID version 7 (RFC 9562), so that rows made later sort later.

Within one process ids never go backwards, also when the wall clock does: a counter in the 12 bits
after the timestamp carries on from the last id.
"""

import os
import threading
import time
from functools import lru_cache
from uuid import UUID

_COUNTER_BITS = 12
_RANDOM_BITS = 62
_state = {"millis": 0, "counter": 0}
_lock = threading.Lock()


def _next_tick() -> tuple[int, int]:
    """A (milliseconds, counter) pair that is greater than every pair before it."""
    now = time.time_ns() // 1_000_000
    with _lock:
        if now > _state["millis"]:
            # Starting in the lower half leaves room to count within the same millisecond.
            _state.update(millis=now, counter=int.from_bytes(os.urandom(2), "big") & 0x7FF)
        elif _state["counter"] < (1 << _COUNTER_BITS) - 1:
            _state["counter"] += 1
        else:
            _state.update(millis=_state["millis"] + 1, counter=0)
        return _state["millis"], _state["counter"]


def new_id() -> UUID:
    """A new UUIDv7, greater than all before it: 48 bits of ms, a 12-bit counter, 62 random bits."""
    millis, counter = _next_tick()
    tail = int.from_bytes(os.urandom(8), "big") & ((1 << _RANDOM_BITS) - 1)
    return UUID(int=millis << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | tail)


@lru_cache(maxsize=1024)
def text_of(ident: UUID) -> str:
    """The usual spelling; remembered, as a batch of messages spells its channel again and again."""
    return str(ident)
