"""How long marking takes, and what follows: when to mark a group, and for how long marks last."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from whatsapp.domain.send_queue import Lease

LEAST_LEAD_SECONDS, MOST_LEAD_SECONDS = 0.02, 0.15
"""A group is marked between so long and so long before its first slot."""
MARKS_IN_LEASE: Final = 8
"""A lease lasts so many times what marking took, so that a slow one leaves time for sending."""
LONGEST_STRETCH: Final = timedelta(seconds=60)
_FADING: Final = 0.98
"""What took long once is forgotten by so much with each mark."""


@dataclass(slots=True)
class MarkTime:
    """Remembers how long marking took lately, in seconds, at its worst."""

    seconds: float = field(default=0.01, init=False)

    def took(self, seconds: float) -> None:
        """Count one mark."""
        self.seconds = max(_FADING * self.seconds, seconds)

    @property
    def lead_seconds(self) -> float:
        """How long before its first slot a group is to be marked."""
        return min(max(1.5 * self.seconds, LEAST_LEAD_SECONDS), MOST_LEAD_SECONDS)

    def lease(self, wanted: Lease) -> Lease:
        """The lease that was wanted, or a longer one where marking would take too much of it."""
        stretched = min(MARKS_IN_LEASE * timedelta(seconds=self.seconds), LONGEST_STRETCH)
        return wanted if wanted.length >= stretched else Lease(stretched)
