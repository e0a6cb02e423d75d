"""Settings for commands that write a log."""

from typing import Literal

from shared.infrastructure.observability import configure_logging, log_what_ends_us
from shared.infrastructure.settings import Settings, load_settings
from shared.kernel.errors import Misconfigured
from tellwire.cli.unread import warn_of_unread_variables


def settings_of_log(level: Literal["warning"] | None = None) -> Settings:
    """The settings; from here on the log is as they say, but for a `level` of the command's own."""
    try:
        settings = load_settings()
    except Misconfigured:
        warn_of_unread_variables()  # What is missing may be what is misspelt.
        raise
    configure_logging(level=level or settings.log_level, form=settings.log_format)
    log_what_ends_us()
    warn_of_unread_variables()
    return settings
