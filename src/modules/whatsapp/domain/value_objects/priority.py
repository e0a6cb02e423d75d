"""How urgent a message is among the messages of its channel."""

from enum import StrEnum


class Priority(StrEnum):
    """The three lanes of a channel's queue."""

    HIGH = "high"
    NORMAL = "normal"
    BULK = "bulk"

    @property
    def lane(self) -> int:
        """The lane's number in the queue; lower goes first."""
        return _LANES[self]

    @classmethod
    def from_lane(cls, lane: int) -> "Priority":
        """The priority of a lane's number; `ValueError` for a number that is none."""
        try:
            return _PRIORITIES[lane]
        except KeyError:
            raise ValueError(f"{lane} is not a valid lane") from None


_LANES = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.BULK: 2}
_PRIORITIES = {lane: priority for priority, lane in _LANES.items()}
