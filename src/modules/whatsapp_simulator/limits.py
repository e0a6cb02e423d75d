"""Meta's brakes on a number: messages per second, and messages to one user."""

from collections import deque

from whatsapp_simulator.clock import SECOND_NS
from whatsapp_simulator.recent import RecentMap

PAIR_INTERVAL_NS = 6 * SECOND_NS
PAIR_BURST = 45
_PAIR_MEMORY = 200_000
_PAIR_ROTATION_NS = PAIR_BURST * PAIR_INTERVAL_NS


class SlidingSecond:
    """Counts what happened in the second that ends now, exactly: windows are (t - 1 s, t].

    `peak` is the largest count that any such window ever held.
    """

    __slots__ = ("_times", "peak")

    def __init__(self) -> None:
        self._times: deque[int] = deque()
        self.peak = 0

    def count(self, now_ns: int) -> int:
        """How many lie in the second that ends at `now_ns`, which never goes back."""
        times = self._times
        horizon = now_ns - SECOND_NS
        while times and times[0] <= horizon:
            times.popleft()
        return len(times)

    def add(self, now_ns: int) -> None:
        """Record one more at `now_ns`."""
        self._times.append(now_ns)
        self.peak = max(self.peak, self.count(now_ns))

    def try_add(self, now_ns: int, limit: int) -> bool:
        """Record one more unless the second that ends now already holds `limit`."""
        if self.count(now_ns) >= limit:
            return False
        self.add(now_ns)
        return True


class PairLimit:
    """One message per 6 s to the same user, with up to 45 at once borrowed from later quota.

    Kept as the time until which the user's quota is used up (GCRA), source: Meta, pair rate limit.
    """

    __slots__ = ("_rotated_ns", "_used_until")

    def __init__(self) -> None:
        self._used_until: RecentMap[str, int] = RecentMap(_PAIR_MEMORY)
        self._rotated_ns = 0

    def allows(self, user: str, now_ns: int) -> bool:
        """Whether the user may get a message now; consumes nothing."""
        used_until = self._used_until.get(user) or 0
        return used_until - now_ns <= (PAIR_BURST - 1) * PAIR_INTERVAL_NS

    def consume(self, user: str, now_ns: int) -> None:
        """Count one accepted message."""
        if now_ns - self._rotated_ns > _PAIR_ROTATION_NS:
            # What is older than a full burst's debt is paid off and may be forgotten.
            self._used_until.rotate()
            self._rotated_ns = now_ns
        used_until = max(self._used_until.get(user) or 0, now_ns)
        self._used_until.put(user, used_until + PAIR_INTERVAL_NS)
