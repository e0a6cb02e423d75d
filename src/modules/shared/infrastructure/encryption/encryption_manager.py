"""AES-256-GCM bound to table, column and tenant.

A ciphertext is `0x01 | key id, 4 bytes big-endian | nonce, 12 random bytes | data | tag, 16 bytes`.
The associated data is `0x01 | key id | lp(table) | lp(column) | lp(tenant)`, where `lp` puts four
bytes of length before a part, so that no two bindings read the same; a binding without a tenant has
a tenant part of length 0, which no tenant has. Each column has a key of its own, derived from the
master key with HKDF-SHA256.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Never
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.infrastructure.encryption.errors import (
    EncryptionNotConfigured,
    InvalidSecret,
    KeyNotInRing,
    Malformed,
    Tampered,
    UnknownKeyId,
    UnknownVersion,
)
from shared.infrastructure.encryption.key_ring import KEY_BYTES, KeyRing
from shared.kernel.secret import Secret

VERSION: Final = 1
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 5
OVERHEAD_BYTES: Final = HEADER_BYTES + NONCE_BYTES + TAG_BYTES
"""How much longer a ciphertext is than the UTF-8 of its plaintext."""

_PURPOSE: Final = b"tellwire/encryption/v1"
_MAX_DERIVED_KEYS: Final = 1024  # columns times keys; far more than a schema has


_TENANT_LENGTH: Final = (16).to_bytes(4, "big")
_NO_TENANT: Final = (0).to_bytes(4, "big")


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


@dataclass(frozen=True, slots=True)
class Binding:
    """The place a secret belongs to; in any other place its ciphertext does not open.

    `tenant_id` is None only for tables of the platform itself, which belong to no tenant.
    """

    table: str
    column: str
    tenant_id: UUID | None

    @property
    def place(self) -> str:
        """`table.column`, as errors name it."""
        return f"{self.table}.{self.column}"

    @property
    def tenant_part(self) -> bytes:
        """The tenant in the associated data, length-prefixed; no tenant differs from every one."""
        return _NO_TENANT if self.tenant_id is None else _TENANT_LENGTH + self.tenant_id.bytes


@dataclass(frozen=True, slots=True)
class _ColumnKey:
    """One column's cipher under one master key, and what its associated data begin with."""

    cipher: AESGCM
    header: bytes
    associated: bytes


class EncryptionManager:
    """Encrypts secrets for the place they are stored in, and opens them only there.

    Safe to share between threads and across fork: it holds no state but derived keys, and nonces
    come from the operating system.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        derive = lru_cache(maxsize=_MAX_DERIVED_KEYS)(self._derive)
        self._column_key: Callable[[int, str, str], _ColumnKey] = derive

    @property
    def ring(self) -> KeyRing:
        """The key ring in use."""
        return self._ring

    def encrypt(self, plaintext: Secret | str, binding: Binding) -> bytes:
        """Encrypt under the primary key, differently each time; InvalidSecret for an empty text."""
        clear = _to_bytes(plaintext, binding)
        key = self._column_key(self._ring.primary, binding.table, binding.column)
        nonce = os.urandom(NONCE_BYTES)
        sealed = key.cipher.encrypt(nonce, clear, key.associated + binding.tenant_part)
        return key.header + nonce + sealed

    def decrypt(self, ciphertext: bytes, binding: Binding) -> Secret:
        """Open a value stored at `binding`; all but the exact value is DecryptionFailed."""
        key_id = _key_id(ciphertext, binding)
        try:
            key = self._column_key(key_id, binding.table, binding.column)
        except KeyNotInRing:
            raise UnknownKeyId(f"{binding.place} needs key {key_id}: the ring has none") from None
        clear = self._open(ciphertext, key, binding)
        if clear is None:
            raise Tampered(f"{binding.place} holds a value that was changed or moved")
        text = _to_text(clear)
        if text is None:
            raise Malformed(f"{binding.place} does not hold text")
        return Secret(text)

    def key_id(self, ciphertext: bytes) -> int:
        """The id of the key that `ciphertext` names; not authenticated, unlike `decrypt`."""
        return _key_id(ciphertext, None)

    def needs_rotation(self, ciphertext: bytes) -> bool:
        """Whether `ciphertext` names another key than the primary."""
        return self.key_id(ciphertext) != self._ring.primary

    def _derive(self, key_id: int, table: str, column: str) -> _ColumnKey:
        place = _prefixed(table.encode()) + _prefixed(column.encode())
        header = bytes([VERSION]) + key_id.to_bytes(4, "big")
        derive = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_PURPOSE + place)
        cipher = AESGCM(derive.derive(self._ring.material(key_id)))
        return _ColumnKey(cipher, header, header + place)

    @staticmethod
    def _open(ciphertext: bytes, key: _ColumnKey, binding: Binding) -> bytes | None:
        nonce = ciphertext[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES]
        sealed = ciphertext[HEADER_BYTES + NONCE_BYTES :]
        try:
            return key.cipher.decrypt(nonce, sealed, key.associated + binding.tenant_part)
        except (InvalidTag, ValueError, OverflowError):
            return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._ring!r})"

    def __reduce__(self) -> Never:
        raise TypeError(f"{type(self).__name__} refuses to be pickled or copied")


# The helpers below give None or fall through instead of raising inside `except`: an encoding error
# carries the whole text, and would stay reachable as the `__context__` of ours.


def _to_bytes(plaintext: object, binding: Binding) -> bytes:
    text = plaintext.reveal() if isinstance(plaintext, Secret) else plaintext
    if not isinstance(text, str) or not text:
        raise InvalidSecret(field=binding.column)
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    raise InvalidSecret("A secret to be stored is valid Unicode text", field=binding.column)


def _to_text(clear: bytes) -> str | None:
    try:
        return clear.decode()
    except UnicodeDecodeError:
        return None


def _key_id(ciphertext: object, binding: Binding | None) -> int:
    """The key id in the header, after everything that can be checked without a key."""
    if not isinstance(ciphertext, bytes) or not ciphertext:
        raise Malformed(f"{_place(binding)} does not hold a ciphertext")
    if ciphertext[0] != VERSION:
        raise UnknownVersion(f"{_place(binding)} holds a value in no format of this release")
    if len(ciphertext) <= OVERHEAD_BYTES:
        raise Malformed(f"{_place(binding)} holds a value that was cut short")
    return int.from_bytes(ciphertext[1:HEADER_BYTES], "big")


def _place(binding: Binding | None) -> str:
    return "The column" if binding is None else binding.place


_configured: dict[str, EncryptionManager] = {}


def configure_encryption(manager: EncryptionManager | None) -> None:
    """Choose the manager of this process for encrypted columns; None forgets it."""
    _configured.clear()
    if manager is not None:
        _configured["manager"] = manager


def current_encryption() -> EncryptionManager:
    """The manager given to `configure_encryption`; raises EncryptionNotConfigured without one."""
    manager = _configured.get("manager")
    if manager is None:
        raise EncryptionNotConfigured
    return manager
