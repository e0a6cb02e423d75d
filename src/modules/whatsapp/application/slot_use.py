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

    forfeited: float = field(default=0, init=False)
    """How many slots were reached too late to be used or given up to reach others, in all."""

    used: int = field(default=0, init=False)
    """How many were reached in time, in all."""

    _since: float | None = field(default=None, init=False)
    _reached: int = field(default=0, init=False)
    _late: int = field(default=0, init=False)
    _missed_many: bool = field(default=False, init=False)  # When it was looked at last.
    _is_late: bool = field(default=False, init=False)  # And before that too.
    _full_at: float = field(default=float("-inf"), init=False)

    def reached(self, *, in_time: bool, at: float) -> None:
        """Count one slot."""
        if in_time:
            self.used += 1
            self._look(at)
        else:
            self.missed(1, at=at)

    def missed(self, number: int, *, at: float) -> None:
        """Count slots that were over before anybody came."""
        self.forfeited += number
        self._late += number
        self._look(at, number)

    def _look(self, at: float, number: int = 1) -> None:
        if self._since is None:
            self._since = at
        self._reached += number
        if at - self._since >= LOOKED_AT_SECONDS:
            missed_many = self._late > MOST_FORFEITED * self._reached
            # Not once only: whoever begins connects to everything first, and so would the next one.
            self._is_late = missed_many and self._missed_many
            self._missed_many = missed_many
            self._since, self._reached, self._late = at, 0, 0

    def gave_up(self, number: float) -> None:
        """Count slots that were not to be had because others last longer, or that are left over."""
        self.forfeited += number

    def full(self, at: float) -> None:
        """More could go out, but as many requests are under way as may be."""
        self._full_at = at

    def stance(self, at: float) -> Stance:
        """What to say about how the channel is served."""
        if at - self._full_at < FULL_FOR_SECONDS:
            return Stance.JOIN
        return Stance.RELIEVE if self._is_late else Stance.ALONE
