"""How many requests to Meta a process has under way, and how many more it may.

Each takes a connection, of which there are so many; a request that had to wait for one would fail
as if Meta could not be reached. So what cannot have one stays claimed and unmarked.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class InFlight:
    """Counts a process's requests that are about to leave or not answered yet, of all channels.

    A channel has no more under way than are free then. So those whose answers do not come share
    what there is, and leave as many to whoever comes next as each of them has.
    """

    most: int = 2000
    number: int = field(default=0, init=False)
    _waiting: dict[Hashable, Callable[[], None]] = field(default_factory=dict, init=False)

    def room(self, own: int) -> int:
        """How many more may be under way of a channel that has `own`."""
        return max(0, self.most - self.number - own) // 2  # Each is one more and leaves one less.

    def expect(self, number: int) -> None:
        """So many more are under way, or fewer: then as many of those that wait are told."""
        self.number += number
        for _ in range(min(-number, len(self._waiting))):
            self._waiting.pop(next(iter(self._waiting)))()

    def wait(self, who: Hashable, told: Callable[[], None]) -> None:
        """Have `told` called once when there may be room for `who`, those first that wait longest.

        Whoever is told and still has no room has to wait anew.
        """
        self._waiting.setdefault(who, told)

    def leave(self, who: Hashable) -> None:
        """`who` does not wait any more."""
        self._waiting.pop(who, None)
