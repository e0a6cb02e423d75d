"""API keys: a text that says whose it is and proves it.

    tw_<43 letters and digits: tenant id, key id>_<43 letters and digits: 32 random bytes>

The first half names tenant and key, so that a key is looked up under its own tenant's row-level
security and nothing ever reads across tenants. Of the second half only the SHA-256 is kept: 256
random bits need neither salt nor a slow hash.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from shared.kernel.errors import InvalidInput, NotFoundException
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from tenancy.domain.name import checked_name

PREFIX: Final = "tw_"
SECRET_BYTES: Final = 32
_ID_BYTES: Final = 16
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_CHARACTERS: Final = 43  # 62**43 is just beyond 2**256
_KEY: Final = re.compile(r"tw_([0-9A-Za-z]{43})_([0-9A-Za-z]{43})")


class InvalidApiKey(InvalidInput):
    """A property of a key that is to be made is not what it may be."""

    code = "invalid_api_key"
    title = "The API key is not valid"


class ApiKeyNotFound(NotFoundException):
    """The key does not exist in this tenant."""

    code = "api_key_not_found"
    title = "No API key with this id exists in this tenant"


class Scope(StrEnum):
    """What a key may do."""

    MESSAGES_SEND = "messages:send"
    MESSAGES_READ = "messages:read"
    CHANNELS_READ = "channels:read"
    CHANNELS_WRITE = "channels:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"


def parse_scopes(texts: Iterable[str]) -> frozenset[Scope]:
    """The scopes that `texts` name; InvalidApiKey for one that is unknown, or for none."""
    scopes: set[Scope] = set()
    for text in texts:
        try:
            scopes.add(Scope(text))
        except ValueError:
            known = ", ".join(Scope)
            raise InvalidApiKey(f"Each must be one of {known}", field="scopes") from None
    if not scopes:
        raise InvalidApiKey(f"At least one of {', '.join(Scope)}", field="scopes")
    return frozenset(scopes)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A key as somebody presented it: well-formed, and nothing more is known of it yet."""

    tenant_id: UUID
    key_id: UUID
    digest: bytes = field(repr=False)


def read_key(text: str) -> PresentedKey | None:
    """What `text` says of itself; None for anything that is not spelt as a key."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    ids, secret = _decoded(match[1]), _decoded(match[2])
    if ids is None or secret is None:
        return None
    return PresentedKey(UUID(bytes=ids[:_ID_BYTES]), UUID(bytes=ids[_ID_BYTES:]), digest_of(secret))


def digest_of(secret: bytes) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret).digest()


@dataclass(slots=True, kw_only=True)
class ApiKey:
    """A key of a tenant: what it may do, and until when. It cannot show its own text."""

    tenant_id: UUID
    name: str
    scopes: frozenset[Scope]
    secret_digest: bytes = field(repr=False)
    id: UUID = field(default_factory=new_id)
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def __post_init__(self) -> None:
        self.name = checked_name(self.name, InvalidApiKey)

    def admits(self, digest: bytes, at: datetime) -> bool:
        """Whether the secret with this digest opens it now; takes the same time whichever."""
        matches = hmac.compare_digest(self.secret_digest, digest)
        expired = self.expires_at is not None and self.expires_at <= at
        return matches and not expired and self.revoked_at is None

    def revoke(self, at: datetime) -> None:
        """Close it for good; a second time changes nothing."""
        self.revoked_at = self.revoked_at or at


@dataclass(frozen=True, slots=True)
class IssuedApiKey:
    """A new key with its text, which is nowhere else and cannot be had again."""

    key: ApiKey
    text: Secret

    @classmethod
    def issue(
        cls,
        *,
        tenant_id: UUID,
        name: str,
        scopes: frozenset[Scope],
        at: datetime,
        expires_at: datetime | None = None,
    ) -> "IssuedApiKey":
        """A key made of fresh random bytes; InvalidApiKey if it could never be used."""
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= at):
            raise InvalidApiKey("A time to come, with its zone", field="expires_at")
        secret = secrets.token_bytes(SECRET_BYTES)
        key = ApiKey(
            tenant_id=tenant_id,
            name=name,
            scopes=scopes,
            secret_digest=digest_of(secret),
            expires_at=expires_at,
        )
        names = _encoded(key.tenant_id.bytes + key.id.bytes)
        return cls(key, Secret(f"{PREFIX}{names}_{_encoded(secret)}"))


def _encoded(data: bytes) -> str:
    """32 bytes as 43 letters and digits, always of the same length."""
    number, characters = int.from_bytes(data, "big"), list[str]()
    for _ in range(_CHARACTERS):
        number, value = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[value])
    return "".join(reversed(characters))


def _decoded(text: str) -> bytes | None:
    number = 0
    for character in text:
        number = number * len(_ALPHABET) + _VALUES[character]
    return number.to_bytes(SECRET_BYTES, "big") if number < 1 << 8 * SECRET_BYTES else None
