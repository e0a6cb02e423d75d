"""Metrics of HTTP; every label comes from a closed set, never from a tenant or a caller."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class HttpMetrics:
    """How many requests were answered, with what, and how long it took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "tellwire_http_requests",
            "Requests by route as declared and by status; 'gone' where the client hung up.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "tellwire_http_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=registry,
        )

    def observe(self, *, method: str, route: str, status: int | None, seconds: float) -> None:
        """Count one request; `route` is a declared path."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, "gone" if status is None else str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)

    def observer(self, *, method: str, route: str, status: int) -> Callable[[float], None]:
        """Counts requests that all are answered alike, by their seconds; finds its labels once."""
        requests = self._requests.labels(method, route, str(status))
        durations = self._seconds.labels(method, route)

        def observe(seconds: float) -> None:
            requests.inc()
            durations.observe(seconds)

        return observe
