"""Logs that hold nothing secret, and metrics whose labels come from closed sets."""

from shared.infrastructure.observability.logs import configure_logging
from shared.infrastructure.observability.metrics import HttpMetrics
from shared.infrastructure.observability.redaction import redact, redact_event, redact_text

__all__ = ["HttpMetrics", "configure_logging", "redact", "redact_event", "redact_text"]
