"""Variables that look like settings of Tellwire and are none: a misspelt one changes nothing."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Final

from pydantic_settings import DotEnvSettingsSource

from shared.infrastructure.settings import ENV_FILE, PREFIX, Settings

OF_COMMANDS: Final = frozenset({"ACCESS_TOKEN", "API_KEY", "APP_SECRET", "VERIFY_TOKEN"})
"""Read by single commands, besides the settings."""
OF_THE_SIMULATOR: Final = "SIMULATOR_"
"""It refuses by itself what it does not know."""
_NEAR: Final = 0.7
# What Kubernetes gives every container about a service that is called tellwire, or tellwire-api.
_OF_A_SERVICE: Final = re.compile(
    r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_logger = logging.getLogger(__name__)


def warn_of_unread_variables() -> None:
    """One line for each variable, of the environment or `.env`, that this release does not read."""
    given: list[tuple[str, str | None]] = [*os.environ.items()]
    with suppress(OSError, UnicodeDecodeError):  # Whoever reads the settings says so.
        given += DotEnvSettingsSource(Settings, env_file=ENV_FILE).env_vars.items()
    for name, nearest in unread(name for name, value in given if value):
        near = f"; do you mean {nearest}?" if nearest else ""
        _logger.warning("%s is no setting and changes nothing%s", name, near)


def unread(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those of `names` that begin as settings do and are none, each with the nearest that is."""
    known = {name.upper() for name in Settings.model_fields} | OF_COMMANDS
    for name in sorted({name.upper() for name in names}):
        rest = name.removeprefix(PREFIX)
        if rest == name or rest.startswith(OF_THE_SIMULATOR):
            continue
        if rest in known or _OF_A_SERVICE.fullmatch(rest):
            continue
        nearest = get_close_matches(rest, sorted(known), n=1, cutoff=_NEAR)
        yield name, f"{PREFIX}{nearest[0]}" if nearest else ""
