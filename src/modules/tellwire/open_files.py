"""How many files, and so connections, a process may have open."""

import resource
from contextlib import suppress


def allow_many_connections() -> None:
    """Use what the system allows: the default of many is enough for a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
