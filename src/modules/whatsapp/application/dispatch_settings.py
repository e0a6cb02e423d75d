"""What a worker may be told about dispatching a channel."""

from dataclasses import dataclass, field
from datetime import timedelta

from whatsapp.domain.send_queue import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """How long a claim lasts, how many requests may be under way, how long an unknown is held."""

    lease: Lease = field(default_factory=Lease)
    unknown_for: timedelta = timedelta(minutes=2)
    max_in_flight: int = 500
