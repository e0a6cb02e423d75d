"""Where a server's clock stands against ours, known within the fastest round trips.

A server that gives out times ("from 12:00:00.5 on") and a process that acts on them need not have
equal clocks. Each reply that carries the server's time bounds the difference: the server read its
clock after we asked and before we heard. The bounds of several replies are cut with one another,
so that a reply which was slow to arrive does not blur what is already known.
"""

from typing import Final

_DRIFT_DIVISOR: Final = 2_000  # Two clocks drift apart by at most 500 ppm, what NTP may slew.
_RESOLUTION_NS: Final = 1_000  # The server tells whole microseconds, rounded down.


class ServerClock:
    """Bounds on (server's clock - our monotonic clock) in nanoseconds, and since when they hold.

    `steady_since_ns` is our monotonic time of the first reply, or of the reply that showed that one
    of the clocks had been moved; what was agreed on before it says nothing about now.
    """

    __slots__ = ("_seen_ns", "high_ns", "low_ns", "steady_since_ns")

    def __init__(self, server_micros: int, *, sent_ns: int, received_ns: int) -> None:
        server_ns = server_micros * 1_000
        self.low_ns = server_ns - received_ns
        self.high_ns = server_ns + _RESOLUTION_NS - sent_ns
        self.steady_since_ns = self._seen_ns = received_ns

    def observe(self, server_micros: int, *, sent_ns: int, received_ns: int) -> None:
        """Take in a reply that was asked for at `sent_ns` and heard at `received_ns`."""
        server_ns = server_micros * 1_000
        low, high = server_ns - received_ns, server_ns + _RESOLUTION_NS - sent_ns
        drift = max(0, received_ns - self._seen_ns) // _DRIFT_DIVISOR
        known_low, known_high = self.low_ns - drift, self.high_ns + drift
        if low > known_high or high < known_low:
            self.steady_since_ns = received_ns
        else:
            low, high = max(low, known_low), min(high, known_high)
        self.low_ns, self.high_ns, self._seen_ns = low, high, received_ns
