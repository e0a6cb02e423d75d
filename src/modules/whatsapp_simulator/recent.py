"""A map that forgets: bounded memory without a scan."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class RecentMap(Generic[K, V]):
    """Remembers at least the last `capacity` keys written and at most twice as many.

    Two generations instead of an LRU list: every operation takes constant time, and forgetting
    never stalls the event loop.
    """

    __slots__ = ("_capacity", "_new", "_old")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._new or key in self._old

    def get(self, key: K) -> V | None:
        """The value last written under this key, or None if unknown or forgotten."""
        value = self._new.get(key)
        return self._old.get(key) if value is None else value

    def put(self, key: K, value: V) -> None:
        """Remember the value; may forget the older generation."""
        if len(self._new) >= self._capacity:
            self.rotate()
        self._new[key] = value

    def rotate(self) -> None:
        """Forget the older generation and begin a new one."""
        self._old, self._new = self._new, {}

    def clear(self) -> None:
        """Forget everything."""
        self._old, self._new = {}, {}
