"""Proof that a webhook is from us: the Standard Webhooks scheme, and Meta's for Meta's format.

    webhook-id: <event id>   webhook-timestamp: <seconds>   webhook-signature: v1,<base64> ...

Signed are id, timestamp and body, joined by full stops, with HMAC-SHA256 under the bytes that the
secret holds behind `whsec_` in base64. While a secret is rotated both sign. (Standard Webhooks,
specification.)
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from shared.kernel.secret import Secret

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # what secrets begin with, and no secret


def signed_headers(
    body: bytes, *, message_id: str, at: datetime, secrets: Sequence[Secret]
) -> dict[str, str]:
    """The three headers of the Standard Webhooks scheme; the first secret is the current one."""
    timestamp = str(int(at.timestamp()))
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = [f"v1,{_mac(secret, content)}" for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def hub_signature(body: bytes, secret: Secret) -> str:
    """The value of X-Hub-Signature-256, with the whole secret as Meta's app secret would be."""
    return "sha256=" + hmac.digest(secret.reveal().encode(), body, hashlib.sha256).hex()


def _mac(secret: Secret, content: bytes) -> str:
    key = base64.b64decode(secret.reveal().removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
