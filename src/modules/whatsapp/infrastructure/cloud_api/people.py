"""Who a message is from, whom a status is about, and what the contacts beside them say of those."""

from collections.abc import Mapping, Sequence
from typing import Any

from whatsapp.infrastructure.cloud_api.fields import mapping, person

_Object = Mapping[str, Any]
Names = tuple[str | None, str | None]
"""A `wa_id` and a user id; either may be missing."""


class Contacts:
    """The people whom a change names beside its messages and statuses, each by either name."""

    def __init__(self, contacts: Sequence[_Object]) -> None:
        # By name, since there may be a thousand of them, and as many who look for theirs.
        self._by_name: dict[str, _Object] = {}
        for contact in contacts:
            for name in names_in(contact):
                if name is not None:
                    self._by_name.setdefault(name, contact)
        self.only = contacts[0] if len(contacts) == 1 else None
        """The one of them, where there is one."""

    def of(self, names: Names) -> _Object:
        """The entry of somebody, or an empty one."""
        wa_id, user_id = names
        found = self._by_name.get(wa_id or "")
        return found if found is not None else self._by_name.get(user_id or "", {})


def names_in(contact: _Object) -> Names:
    """The names in an entry of the contacts."""
    return person(contact.get("wa_id"), contact.get("user_id"))


def sender_of(message: _Object) -> Names:
    """Who wrote; a system message may name the person only in its own object."""
    system = mapping(message.get("system"))
    return person(
        message.get("from"),
        message.get("from_user_id"),
        system.get("wa_id"),
        system.get("user_id"),
    )


def recipient_of(status: _Object) -> Names:
    """Whom a status is about; in a group one of those who are in it."""
    return person(
        status.get("recipient_id"),
        status.get("recipient_user_id"),
        status.get("recipient_participant_id"),
    )
