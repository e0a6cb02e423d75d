"""What a channel is told, in the handfuls that are stored each in a transaction of its own."""

from collections.abc import Iterator, Sequence
from typing import Final

from whatsapp.application.applied import Placed
from whatsapp.domain.webhook import StatusReported

MAX_AT_ONCE: Final = 120
"""So many elements of one channel are stored together: to compute more at once holds up others."""


def handfuls(placed: Sequence[Placed]) -> Iterator[Sequence[Placed]]:
    """Up to MAX_AT_ONCE of them each, in their order; last those whose message nobody tells.

    For these others wait who hold messages (`expect_answers`), so that whoever stores them should
    hold none that was told: two such transactions could wait for each other.
    """
    known = {
        one.element.wamid
        for one in placed
        if isinstance(one.element, StatusReported) and one.element.echo
    }
    told, untold = list[Placed](), list[Placed]()
    for one in placed:
        is_untold = isinstance(one.element, StatusReported) and one.element.wamid not in known
        (untold if is_untold else told).append(one)
    for some in (told, untold):
        for first in range(0, len(some), MAX_AT_ONCE):
            yield some[first : first + MAX_AT_ONCE]
