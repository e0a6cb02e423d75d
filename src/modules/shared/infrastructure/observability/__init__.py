"""Logs that hold nothing secret, and metrics whose labels come from closed sets."""

from shared.infrastructure.observability.logs import configure_logging
from shared.infrastructure.observability.metrics import HttpMetrics
from shared.infrastructure.observability.redaction import redact, redact_event, redact_text
from shared.infrastructure.observability.unforeseen import log_what_ends_us

__all__ = [
    "HttpMetrics",
    "configure_logging",
    "log_what_ends_us",
    "redact",
    "redact_event",
    "redact_text",
]
