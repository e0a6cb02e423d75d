"""How late this process reaches slots, and for how long slots therefore have to last.

A process that is not run in time reaches slots late whatever it does. It may take slots that last
longer and lie further apart, and gets a little less than the rate; or short ones, many of which are
over when it comes. What is better is learned from how late it has been. What can be foreseen need
not be learned: where many channels' requests wait at once, some leave behind all others.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from whatsapp.domain.rate_limit import LATENESS, MAX_LATENESS

ON_THE_WAY_SECONDS: Final = 0.003
"""The last of the time in which a slot may be used is left to the way to Meta."""
GROUP_SECONDS: Final = 0.05
"""A group's slots span this long: so much is unknown if the process dies after marking it."""
LATE_GROUP_SECONDS: Final = 0.15
"""Who misses many slots takes more of them at once, since asking takes time too."""
LEARNED_IN_SECONDS: Final = 0.25
"""So often what was seen is looked at, and counts half from then on."""
DEPARTURE_SECONDS: Final = 0.0001
"""So long it takes to let one request leave."""
LEAST_SEEN: Final = 10
"""Fewer slots than that say nothing."""
_USUAL: Final = LATENESS.total_seconds()
_CHOICES: Final = (_USUAL, 0.012, 0.016, 0.024, 0.032, 0.048, 0.064, 0.096, 0.128, 0.192, 0.25)


@dataclass(slots=True)
class Lateness:
    """Learns from all slots of a process, of whichever channel; times are seconds of any clock."""

    seconds: float = field(default=_USUAL, init=False)
    """For how long slots are to last by what was learned."""

    # What it takes to let all others leave, at most: since it was looked at last, and before that.
    # Slots that last shorter again are given out only when those that lasted longer are over.
    _crowd: float = field(default=0.0, init=False)
    _crowd_before: float = field(default=0.0, init=False)

    # How many slots were reached within each choice, and in the end how many were later than any.
    _seen: list[float] = field(default_factory=lambda: [0.0] * (len(_CHOICES) + 1), init=False)
    _since: float | None = field(default=None, init=False)

    @property
    def wanted(self) -> timedelta:
        """For how long slots are to last, between `LATENESS` and `MAX_LATENESS`."""
        return min(max(timedelta(seconds=self._lasting), LATENESS), MAX_LATENESS)

    @property
    def group_seconds(self) -> float:
        """How long the slots span that are taken together."""
        return LATE_GROUP_SECONDS if self.seconds > _USUAL else GROUP_SECONDS

    @property
    def given_up(self) -> float:
        """The share of the usual slots that lasting longer costs."""
        return 1 - (1 + _USUAL) / (1 + self.wanted.total_seconds())

    @property
    def _lasting(self) -> float:
        return max(self.seconds, self._crowd, self._crowd_before)

    def crowded(self, others: int) -> None:
        """So many requests of other channels wait for slots too, and may leave before ours."""
        self._crowd = max(self._crowd, others * DEPARTURE_SECONDS)

    def reached(self, late: float, *, at: float, number: int = 1) -> None:
        """Count slots that were reached so late, whether they could still be used or not."""
        self._seen[bisect_left(_CHOICES, late + ON_THE_WAY_SECONDS)] += number
        if self._since is None:
            self._since = at
        elif at - self._since >= LEARNED_IN_SECONDS:
            self._since = at
            self._crowd_before, self._crowd = self._crowd, 0.0
            self._learn()

    def _learn(self) -> None:
        total = sum(self._seen)
        if total < LEAST_SEEN:
            return
        missed, best, least = total, _USUAL, float("inf")
        for choice, number in zip(_CHOICES, self._seen, strict=False):
            missed -= number
            # What is left of the rate is what it can be spaced by, and what is reached of that.
            lost = 1 - (1 - missed / total) / (1 + choice)
            if lost < least:
                best, least = choice, lost
        self.seconds = best
        self._seen = [number / 2 for number in self._seen]
