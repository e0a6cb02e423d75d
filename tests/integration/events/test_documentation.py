"""The code that docs/events.md shows for verifying does verify, and refuses what it must."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from shared.kernel.clock import utc_now
from whatsapp.domain.events import new_secret
from whatsapp.domain.events.signature import signed_headers

DOCUMENT = Path(__file__).parents[3] / "docs" / "events.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def verify():
    code = next(one for one in BLOCK.findall(DOCUMENT.read_text("utf-8")) if "def verify" in one)
    names = {}
    exec(compile(code, str(DOCUMENT), "exec"), names)  # noqa: S102  # our own document
    return names["verify"]


def signed(body, *secrets, at=None):
    return signed_headers(body, message_id="e1", at=at or utc_now(), secrets=secrets)


def test_the_example_takes_what_tellwire_signs_also_during_a_rotation(verify) -> None:
    old, new = new_secret(), new_secret()

    verify(old.reveal(), signed(b"{}", old), b"{}")
    for secret in (old, new):
        verify(secret.reveal(), signed(b"{}", new, old), b"{}")


def test_the_example_refuses_everything_else(verify) -> None:
    secret = new_secret()
    long_ago = utc_now() - timedelta(minutes=6)

    for headers, body in (
        (signed(b"{}", new_secret()), b"{}"),
        (signed(b"{}", secret), b"{ }"),
        (signed(b"{}", secret) | {"webhook-id": "e2"}, b"{}"),
        (signed(b"{}", secret, at=long_ago), b"{}"),
    ):
        with pytest.raises(ValueError, match=r"too old|not from Tellwire"):
            verify(secret.reveal(), headers, body)
