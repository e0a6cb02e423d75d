"""Metrics of what the API takes in; no label speaks of a tenant or a person."""

from prometheus_client import CollectorRegistry, Counter

from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.media import Media


class ApiMetrics:
    """How many messages and webhooks were taken in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._messages = Counter(
            "tellwire_messages_accepted",
            "Messages that the API answered with success, by type; replayed or stored anew.",
            ("type", "result"),
            registry=registry,
        )
        self._webhooks = Counter(
            "tellwire_webhooks_received",
            "Webhook bodies by what became of them.",
            ("result",),
            registry=registry,
        )
        self._stored, self._refused = map(self._webhooks.labels, ("stored", "refused"))
        self._webhook_bytes = Counter(
            "tellwire_webhooks_received_bytes", "Bytes of stored webhook bodies.", registry=registry
        )

        self._media = Counter(
            "tellwire_media_uploaded",
            "Files that tenants uploaded, by type; new ones and those that were there already.",
            ("type", "result"),
            registry=registry,
        )
        self._media_bytes = Counter(
            "tellwire_media_uploaded_bytes", "Bytes of new files of tenants.", registry=registry
        )

    def message_accepted(self, message: OutboundMessage) -> None:
        """Count one message."""
        result = "replayed" if message.replayed else "stored"
        self._messages.labels(message.content.type.value, result).inc()

    def media_uploaded(self, media: Media, *, is_new: bool) -> None:
        """Count one file."""
        self._media.labels(media.kind.value, "new" if is_new else "known").inc()
        self._media_bytes.inc(media.size or 0 if is_new else 0)

    def webhook_stored(self, size: int) -> None:
        """Count one body that was written down."""
        self._stored.inc()
        self._webhook_bytes.inc(size)

    def webhook_refused(self) -> None:
        """Count one body that nobody we know has signed."""
        self._refused.inc()
