"""How much to claim at once: what this worker alone will send in a moment, and little more.

What one worker has claimed, no other sends and no message of a higher lane overtakes. So a worker
that shares its channel with many others claims little at a time, and one that is alone claims much.
"""

import math
from dataclasses import dataclass, field
from typing import Final

TARGET_SECONDS: Final = 0.25
FIRST_SECONDS: Final = 0.05
MAX_CLAIM: Final = 500
_LEAST_ELAPSED_SECONDS: Final = 0.001


@dataclass(slots=True)
class ClaimSize:
    """Learns from how fast the last batch was used up; at most doubles at the same rate."""

    _size: int = field(default=0, init=False)
    _rate: int = field(default=0, init=False)
    _claimed_at: float = field(default=0.0, init=False)
    _was_full: bool = field(default=False, init=False)

    @property
    def low_water(self) -> int:
        """With so many left or fewer it is time for the next batch."""
        return self._size // 2

    def next(self, rate: int, *, at: float) -> int:
        """How many to claim now on a channel with this rate; `at` in seconds of any clock."""
        if rate > self._rate:  # How fast it was used up at a lower rate says nothing.
            self._size = max(self._size, math.ceil(rate * FIRST_SECONDS))
        elif self._was_full:
            elapsed = max(at - self._claimed_at, _LEAST_ELAPSED_SECONDS)
            fitting = math.ceil(self._size * TARGET_SECONDS / elapsed)
            self._size = min(fitting, 2 * self._size)
        ceiling = min(MAX_CLAIM, math.ceil(rate * TARGET_SECONDS) + 1)
        self._size = max(1, min(self._size, ceiling))
        self._claimed_at, self._rate = at, rate
        return self._size

    def got(self, number: int) -> None:
        """What the claim gave; one that was not filled says nothing about speed."""
        self._was_full = number >= self._size
