"""When to try again: how long to wait after a failed attempt, and when to stop.

Pure arithmetic without knowledge of Meta; which code earns which policy is data of
`whatsapp.infrastructure.cloud_api.outcomes`.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from random import Random

_ZERO = timedelta()
_EXTRA = 0.25  # of the window: enough to part those who wait the same prescribed time
_MAX_DOUBLINGS = 64  # a float holds 4**64; every cap is reached long before


class Jitter(StrEnum):
    """Which part of the window is left to chance."""

    FULL = "full"
    """Anywhere between nothing and the window: spreads a crowd best."""
    ADDED = "added"
    """The whole window and up to a quarter more: for waits that the other side prescribes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how late to send again; the window grows by `factor` up to `cap`.

    `retries` counts sends after the first; None never gives up, so that only the message's own
    expiry or a person ends it. `floor` is waited in any case, before the window begins.
    """

    base: timedelta
    cap: timedelta
    retries: int | None
    factor: int = 2
    floor: timedelta = _ZERO
    jitter: Jitter = Jitter.FULL

    def window(self, attempt: int) -> timedelta:
        """The window after `attempt` attempts (from 1): base, base * factor, ... up to the cap."""
        grown = self.base.total_seconds() * float(self.factor) ** _doublings(attempt)
        return timedelta(seconds=min(grown, self.cap.total_seconds()))


def _doublings(attempt: int) -> int:
    return min(max(attempt - 1, 0), _MAX_DOUBLINGS)


def retry_delay(
    policy: RetryPolicy, *, attempt: int, rng: Random, at_least: timedelta | None = None
) -> timedelta | None:
    """How long to wait after the given attempt (1 is the first) failed; None: do not try again.

    `at_least` is a wait that the other side asked for; chance is added to it, not taken from it,
    or everyone who was told the same would come back at the same instant.
    """
    if policy.retries is not None and attempt > policy.retries:
        return None
    share = rng.random() if policy.jitter is Jitter.FULL else 1 + _EXTRA * rng.random()
    return max(policy.floor, at_least or _ZERO) + policy.window(attempt) * share
