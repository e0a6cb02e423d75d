"""How well a worker uses the slots of a channel, and whether another one should serve it too."""

from dataclasses import dataclass, field
from typing import Final

from whatsapp.domain.driving import Stance

LOOKED_AT_SECONDS: Final = 1.0
"""What is said about the use of slots is said after watching it for so long."""
MOST_FORFEITED: Final = 0.1
"""More than this share forfeited, and somebody else may do better."""
MOST_SPARE: Final = 63
FULL_FOR_SECONDS: Final = 2.0


@dataclass(slots=True)
class SlotUse:
    """Counts slots that were reached in time or too late; times are seconds of any one clock."""

    forfeited: int = field(default=0, init=False)
    """How many slots were reached too late to be used, in all."""

    used: int = field(default=0, init=False)
    """How many were reached in time, in all."""

    spare: int = field(default=0, init=False)
    """How many slots to take beyond what is needed: the only one, which may be now, is missed by
    whoever hardly runs, again and again."""

    _last_at: float = field(default=float("-inf"), init=False)
    _used_before: int = field(default=-1, init=False)
    _since: float | None = field(default=None, init=False)
    _reached: int = field(default=0, init=False)
    _late: int = field(default=0, init=False)
    is_late: bool = field(default=False, init=False)
    """Whether many slots were missed lately."""

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
            self.is_late = self._late > MOST_FORFEITED * self._reached
            self._since, self._reached, self._late = at, 0, 0

    def took(self, *, last_at: float | None, at: float) -> None:
        """Slots were taken, the last of which comes at `last_at`; None: all had gone by already.

        Where not one of those before was used, the next are more.
        """
        if at > self._last_at:
            in_vain = self.used == self._used_before
            self.spare = min(2 * self.spare + 1, MOST_SPARE) if in_vain else self.spare // 2
            self._used_before = self.used
        if last_at is not None:
            self._last_at = last_at

    def full(self, at: float) -> None:
        """More could go out, but as many requests are under way as may be."""
        self._full_at = at

    def stance(self, at: float) -> Stance:
        """What to say about how the channel is served."""
        if at - self._full_at < FULL_FOR_SECONDS:
            return Stance.JOIN
        return Stance.RELIEVE if self.is_late else Stance.ALONE
