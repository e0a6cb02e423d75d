"""How well a worker uses the slots of a channel, and whether another one should serve it too."""

from dataclasses import dataclass, field
from typing import Final

from whatsapp.domain.driving import Stance

LOOKED_AT_SECONDS: Final = 1.0
"""What is said about the use of slots is said after watching it for so long."""
MOST_FORFEITED: Final = 0.1
"""More than this share forfeited, and somebody else may do better."""
FULL_FOR_SECONDS: Final = 2.0


@dataclass(slots=True)
class SlotUse:
    """Counts slots that were reached in time or too late; times are seconds of any one clock."""

    forfeited: int = field(default=0, init=False)
    """How many slots were reached too late to be used, in all."""

    used: int = field(default=0, init=False)
    """How many were reached in time, in all."""

    _since: float | None = field(default=None, init=False)
    _reached: int = field(default=0, init=False)
    _late: int = field(default=0, init=False)
    _is_late: bool = field(default=False, init=False)
    _full_at: float = field(default=float("-inf"), init=False)

    def reached(self, *, in_time: bool, at: float) -> None:
        """Count one slot."""
        self.forfeited += not in_time
        self.used += in_time
        if self._since is None:
            self._since = at
        self._reached += 1
        self._late += not in_time
        if at - self._since >= LOOKED_AT_SECONDS:
            self._is_late = self._late > MOST_FORFEITED * self._reached
            self._since, self._reached, self._late = at, 0, 0

    def full(self, at: float) -> None:
        """More could go out, but as many requests are under way as may be."""
        self._full_at = at

    def stance(self, at: float) -> Stance:
        """What to say about how the channel is served."""
        if at - self._full_at < FULL_FOR_SECONDS:
            return Stance.JOIN
        return Stance.RELIEVE if self._is_late else Stance.ALONE
