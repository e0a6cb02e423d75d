"""How processes that stay up look for garbage."""

import gc
from typing import Final

YOUNG_OBJECTS: Final = 50_000
"""So many more than were freed start a search: a handful of messages that are loaded to be sent is
ten thousand, looked through in vain for 5 to 15 ms. Python's 700 are reached by two messages."""


def settle_down() -> None:
    """Leave out what is here now for good, and search less often; once, when all is set up.

    A search stops everything else, and here it seldom finds something: what messages leave behind
    is freed by counting references.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
