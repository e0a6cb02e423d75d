"""Which lane a claim begins with: high goes first, and none starves."""

from dataclasses import dataclass
from typing import Final

from whatsapp.domain.send_queue import LANES

LANE_CYCLE: Final = 8
LANE_TURNS: Final = {0: (2, 1, 0), 4: (1, 0, 2)}
"""Of eight claims one begins with the lowest lane and one with the middle one: none starves."""


@dataclass(slots=True)
class LaneTurns:
    """The order of lanes for one claim after the other, from any turn of the cycle on."""

    turn: int = 0

    def next(self) -> tuple[int, ...]:
        """In which order this claim empties the lanes."""
        lanes = LANE_TURNS.get(self.turn % LANE_CYCLE, LANES)
        self.turn += 1
        return lanes
