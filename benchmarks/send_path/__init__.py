"""Whole installations: API, worker, PostgreSQL, Redis and the simulator on this one machine.

Everything runs on all cores, the simulated Meta and the benchmark itself included, so that a rate
here is what is left of the machine for Tellwire. Rivals take turns in whole runs. A message counts
when it was accepted, sent, and reported as sent, delivered and read, with every report stored.
"""

from benchmarks.harness import Context, Figure
from benchmarks.send_path import accepting, dispatching, sustaining, whole_path

TITLE = "Send path"


async def run(context: Context) -> list[Figure]:
    """From acceptance to the last report, beside rivals; then the parts."""
    return [
        *await whole_path.run(context),
        *await accepting.run(context),
        *await sustaining.run(context),
        *await dispatching.run(context),
    ]
