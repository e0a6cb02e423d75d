"""What a customer wrote: Meta's own object for its type, kept as it came."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, repr=False)
class InboundContent:
    """The content of an inbound message; unknown types are kept as they came."""

    type: str
    body: Mapping[str, Any]
