"""Log lines of structlog and of the standard library, in one form, through one redaction."""

import logging
import sys
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import Processor

from shared.infrastructure.observability.redaction import redact_event
from shared.infrastructure.observability.unforeseen import without_texts

_ALWAYS_QUIET: Final = ("uvicorn.access", "httpx", "httpcore")
"""Loggers that write down requests with their query; ours name the route and leave the rest."""


def configure_logging(
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["console", "json"] = "console",
    stream: TextIO | None = None,
) -> None:
    """Send every log line of this process to `stream` (standard error), redacted.

    Call it once, from the composition root; calling it again replaces what was configured.
    """
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(form, colours=form == "console" and target.isatty()))
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _ALWAYS_QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        # uvicorn brings handlers of its own, which know nothing of redaction.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(form: str, *, colours: bool) -> logging.Formatter:
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=colours)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            # Tracebacks become text first, so that they are redacted with everything else.
            without_texts,
            redact_event,
            renderer,
        ],
    )
