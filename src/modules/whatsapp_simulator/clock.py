"""The two clocks of the simulator: one that never jumps, and one that tells the date."""

import time
from collections.abc import Callable
from dataclasses import dataclass

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class SimulatorClock:
    """Monotonic nanoseconds for limits and delays, wall nanoseconds for what is written down."""

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    wall_ns: Callable[[], int] = time.time_ns
