"""Bodies as Meta would post them, about any number, for tests of the intake."""

import json
from itertools import count
from typing import Any

from shared.kernel.ids import new_id

APP = "app-1"
_numbers = count(1)


def number_of(customer: Any) -> str:
    return customer.channel.phone_number_id


def new_wamid() -> str:
    return f"wamid.{next(_numbers)}.{new_id()}"


def inbound_to(customer: Any, wamid: str | None = None, **values: Any) -> dict[str, Any]:
    """A change with one message from a customer of the customer."""
    message = {
        "from": "16505551234",
        "id": wamid or new_wamid(),
        "timestamp": "1795420800",
        "type": "text",
        "text": {"body": "Hi"},
    }
    return messages_of(customer, messages=[message | values])


def edit_of(
    customer: Any, target: str, message: dict[str, Any], *, wamid: str | None = None, **values: Any
) -> dict[str, Any]:
    """A change in which a customer of the customer makes `message` of what they wrote before."""
    edit = {"original_message_id": target, "message": message}
    return inbound_to(customer, wamid, type="edit", edit=edit, **values)


def revoke_of(
    customer: Any, target: str, *, wamid: str | None = None, **values: Any
) -> dict[str, Any]:
    """A change in which a customer of the customer takes back what they wrote before."""
    revoke = {"original_message_id": target}
    return inbound_to(customer, wamid, type="revoke", revoke=revoke, **values)


def status_of(
    customer: Any, wamid: str, status: str = "sent", *, at: int = 1795420800, **values: Any
) -> dict[str, Any]:
    report = {"id": wamid, "status": status, "timestamp": str(at), "recipient_id": "16505551234"}
    return messages_of(customer, statuses=[report | values])


def messages_of(customer: Any, **values: Any) -> dict[str, Any]:
    number = customer if isinstance(customer, str) else number_of(customer)
    metadata = {"display_phone_number": "15550783881", "phone_number_id": number}
    value = {"messaging_product": "whatsapp", "metadata": metadata} | values
    return {"field": "messages", "value": value}


def change(name: str, **value: Any) -> dict[str, Any]:
    return {"field": name, "value": value}


def body(*changes: dict[str, Any], waba: str = "waba-1", time: int | None = None) -> bytes:
    entry: dict[str, Any] = {"id": waba, "changes": list(changes)}
    if time is not None:
        entry["time"] = time
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
