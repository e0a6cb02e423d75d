"""How processes that stay up look for garbage.

Nearly all that messages leave behind is freed by counting references. What is left, what refers to
itself, is found by a search, which stops everything else and looks at whatever has come since the
last one: mostly messages on their way, a few hundred objects each. Python searches whenever there
are so many more of these than at the last search. With a thousand messages on their way, each of
which goes soon, that was every half second, for 50 ms. Here the clock says when.
"""

import gc
from dataclasses import dataclass, field
from typing import Final

from whatsapp.entrypoints.workers.loop import Loop

SEARCH_SECONDS: Final = 15.0
WORTH_SEARCHING: Final = 10_000
"""With fewer new objects than that there is no garbage to speak of."""
FULL_EVERY: Final = 10
"""So many searches look at what is new only; then one looks at all that has come since the start.
What is new at a search and stays is not looked at by the next ones, and may become garbage."""
MOST_NEW: Final = 500_000
"""So many new objects are searched whatever the clock says."""


def settle_down() -> None:
    """Leave out what is here now for good, and search by the clock; once, when all is set up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(MOST_NEW, *gc.get_threshold()[1:])


@dataclass(slots=True)
class Search:
    """`await search()` looks for garbage, if there may be some."""

    _searches: int = field(default=0, init=False)

    async def __call__(self) -> int:
        """0, so that whatever calls it pauses: one search finds all there is."""
        if gc.get_count()[0] >= WORTH_SEARCHING:
            self._searches += 1
            gc.collect(2 if self._searches % FULL_EVERY == 0 else 0)
        return 0


def garbage_search() -> Loop:
    """Searches now and then, once `settle_down` has made Python search less often."""
    return Loop(name="look for garbage", work=Search(), pause_seconds=SEARCH_SECONDS)
