"""Our id and attempt, as Meta carries them along and echoes them in every status of the message.

Every app that is subscribed to the account can read them, so they name no tenant and no person.
"""

import re
from uuid import UUID

from whatsapp.domain.webhook import Echo

MAX_CALLBACK_CHARACTERS = 512  # Meta, Cloud API reference, biz_opaque_callback_data
_OURS = re.compile(r"tw1\.([0-9a-f]{32})\.([1-9][0-9]{0,8})")


def callback_data(*, message_id: UUID, attempt: int) -> str:
    """The text to send along; it can be searched for by the message's id without its hyphens.

    `attempt` counts from 1; `ValueError` beyond nine digits.
    """
    text = f"tw1.{message_id.hex}.{attempt}"
    if _OURS.fullmatch(text) is None:
        raise ValueError("attempts count from 1")
    return text


def parse_callback_data(text: object) -> Echo | None:
    """What we sent along; None for anything that we did not write, never an error."""
    ours = _OURS.fullmatch(text) if isinstance(text, str) else None
    return Echo(UUID(hex=ours[1]), int(ours[2])) if ours else None
