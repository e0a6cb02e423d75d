"""What knowing people gives to its statement: each person's facts and names as arrays."""

from collections.abc import Sequence
from typing import Any

from shared.kernel.ids import new_ids
from whatsapp.domain.conversation import Person
from whatsapp.infrastructure.persistence.repositories.message_rows import all_addresses_of


def people_arrays(people: Sequence[Person]) -> dict[str, Any]:
    """One array for each column of the people, and one for each column of their names."""
    names = [
        (number, address, address in all_addresses_of(*person.gave_up))
        for number, person in enumerate(people)
        for address in all_addresses_of(*person.names)
    ]
    return {
        "numbers": list(range(len(people))),
        "new_ids": new_ids(len(people)),
        "phones": [person.phone and person.phone.e164 for person in people],
        "user_ids": [person.user_id and person.user_id.value for person in people],
        "moved": [person.has_moved for person in people],
        "seen": [person.at for person in people],
        "message_ids": [person.message_id for person in people],
        "called": [person.has_called for person in people],
        "stopped": [person.marketing_stopped for person in people],
        "of": [number for number, _, _ in names],
        "addresses": [address for _, address, _ in names],
        "address_ids": new_ids(len(names)),
        "gone": [is_gone for _, _, is_gone in names],
    }
