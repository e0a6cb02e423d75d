"""Encryption keys by id: one primary that encrypts, the others only decrypt.

The setting TELLWIRE_ENCRYPTION_KEYS holds `<id>:<key>[,<id>:<key>...]`, the primary first; a key is
32 bytes in base64url. Rotation takes two steps, so that at no moment a process meets a value whose
key it lacks: `with_key` and roll out everywhere; `promote` and roll out again; then re-encrypt
(`rotation.rotate`), and only when no row and no backup needs the old key, `without_key`.
"""

import base64
import binascii
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Never, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.infrastructure.encryption.errors import (
    DuplicateKey,
    EmptyKeyRing,
    InvalidKeyId,
    KeyFileExposed,
    KeyFileUnreadable,
    KeyInUse,
    KeyNotInRing,
    MalformedKey,
    WrongKeyLength,
)
from shared.kernel.secret import Secret

KEY_BYTES: Final = 32
MAX_KEY_ID: Final = 0xFFFF_FFFF
"""The id has four bytes in the header of a ciphertext."""

_ENTRY: Final = re.compile(r"([0-9]{1,20}):([A-Za-z0-9_-]*)={0,2}")
_CHECK_VALUE: Final = b"tellwire/check-value/v1"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class KeyRing:
    """Keys by id with one primary; holding an instance is proof that ids and lengths were checked.

    `keys` maps an id to its 32 bytes in base64url without padding. Key ids are never used again for
    other material. Nothing of a ring but its ids can be shown, pickled or copied.
    """

    primary: int
    keys: Mapping[int, Secret]

    def __post_init__(self) -> None:
        if not self.keys:
            raise EmptyKeyRing
        for key_id, key in self.keys.items():
            _check_key(key_id, key)
        if len({_decode(key) for key in self.keys.values()}) != len(self.keys):
            raise DuplicateKey("The same key stands in the ring under two ids")
        if self.primary not in self.keys:
            raise KeyNotInRing(f"The ring has no key {self.primary} to be its primary")
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))

    @classmethod
    def parse(cls, text: str | Secret) -> Self:
        """The ring written as `<id>:<base64url key>[,...]`, the first key being the primary."""
        written = text.reveal() if isinstance(text, Secret) else text
        if not written.strip():
            raise EmptyKeyRing
        keys: dict[int, Secret] = {}
        for place, entry in enumerate(written.split(","), start=1):
            key_id, key = _parse_entry(entry.strip(), place)
            if key_id in keys:
                raise DuplicateKey(f"Key {key_id} stands in the ring twice")
            keys[key_id] = key
        return cls(primary=next(iter(keys)), keys=keys)

    @classmethod
    def generate(cls, key_id: int = 1) -> Self:
        """A ring of one new random key."""
        return cls(primary=key_id, keys={key_id: _new_key()})

    @property
    def ids(self) -> tuple[int, ...]:
        """All key ids, the primary first."""
        return (self.primary, *(key_id for key_id in self.keys if key_id != self.primary))

    def with_key(self, key_id: int | None = None, *, key: Secret | None = None) -> Self:
        """First step of a rotation: the same ring with one more key, which only decrypts so far.

        Without arguments the key is random and its id one above the highest.
        """
        new_id = max(self.keys) + 1 if key_id is None else key_id
        if new_id in self.keys:
            raise DuplicateKey(f"The ring already has a key {new_id}")
        return type(self)(self.primary, {**self.keys, new_id: key or _new_key()})

    def promote(self, key_id: int) -> Self:
        """Second step, once every process knows the key: encrypt with it from now on."""
        return type(self)(key_id, self.keys)

    def without_key(self, key_id: int) -> Self:
        """Last step, once no row and no backup needs the key; what it encrypted is then lost."""
        if key_id == self.primary:
            raise KeyInUse
        if key_id not in self.keys:
            raise KeyNotInRing(f"The ring has no key {key_id}")
        return type(self)(self.primary, {i: key for i, key in self.keys.items() if i != key_id})

    def material(self, key_id: int) -> bytes:
        """The 32 bytes of a key; derive from them at once and keep no copy."""
        if key_id not in self.keys:
            raise KeyNotInRing(f"The ring has no key {key_id}")
        return _decode(self.keys[key_id])

    def check_value(self, key_id: int) -> str:
        """Eight hex digits that tell whether two processes have the same key under an id."""
        derive = HKDF(algorithm=SHA256(), length=4, salt=None, info=_CHECK_VALUE)
        return derive.derive(self.material(key_id)).hex()

    def to_setting(self) -> Secret:
        """The ring as TELLWIRE_ENCRYPTION_KEYS takes it."""
        return Secret(",".join(f"{i}:{self.keys[i].reveal()}" for i in self.ids))

    def __contains__(self, key_id: object) -> bool:
        return key_id in self.keys

    def __repr__(self) -> str:
        return f"{type(self).__name__}(primary={self.primary}, ids={list(self.ids)})"

    def __reduce__(self) -> Never:
        raise TypeError(f"{type(self).__name__} refuses to be pickled or copied")


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key ring in a file that only its owner may touch (mode 0600).

    One `<id>:<key>` a line, the primary first; lines that begin with `#` are comments.
    """

    path: Path

    def load(self) -> KeyRing:
        """Read the ring; refuses a file that its group or others may read or write."""
        lines = (line.strip() for line in self._read().splitlines())
        return KeyRing.parse(",".join(line for line in lines if line and line[0] != "#"))

    def save(self, ring: KeyRing) -> None:
        """Replace the file in one step, durably: a crash leaves the old ring or the new one."""
        draft = self._draft(ring)
        try:
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(self.path.parent)

    def load_or_generate(self) -> KeyRing:
        """Read the ring, or make a new one; processes that start together get the same one."""
        if not self.path.exists():
            draft = self._draft(KeyRing.generate())
            try:
                # A link, unlike a rename, never replaces what another process was faster to make.
                os.link(draft, self.path)
            except FileExistsError:
                return self.load()
            finally:
                draft.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
        return self.load()

    def _read(self) -> str:
        try:
            with self.path.open(encoding="ascii", errors="replace") as file:
                exposed = os.fstat(file.fileno()).st_mode & _OTHERS
                text = "" if exposed else file.read()
        except OSError as error:
            raise KeyFileUnreadable(f"{self.path}: {error.strerror}") from None
        if exposed:
            raise KeyFileExposed(f"{self.path} may be read by others: chmod 600 it")
        return text

    def _draft(self, ring: KeyRing) -> Path:
        """A complete, durable copy beside the file, of mode 0600 from its first byte on."""
        entries = ring.to_setting().reveal().replace(",", "\n")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"# Tellwire encryption keys, the primary first.\n{entries}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise KeyFileUnreadable(f"{self.path}: {error.strerror}") from None
        return Path(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_key() -> Secret:
    return _encode(os.urandom(KEY_BYTES))


def _encode(material: bytes) -> Secret:
    return Secret(base64.urlsafe_b64encode(material).decode().rstrip("="))


def _decode(key: Secret) -> bytes:
    """The bytes of a key that was checked; b"" where it is not base64url."""
    text = key.reveal()
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _check_key(key_id: int, key: Secret) -> None:
    if not 0 <= key_id <= MAX_KEY_ID:
        raise InvalidKeyId
    if len(_decode(key)) != KEY_BYTES:
        raise WrongKeyLength(f"Key {key_id} is not 32 bytes (43 characters of base64url)")


def _parse_entry(entry: str, place: int) -> tuple[int, Secret]:
    """Id and key of one entry; errors name its place, since the entry itself may be a key."""
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise MalformedKey(f"Entry {place} of the key ring is not <id>:<base64url key>")
    key_id, key = int(found[1]), Secret(found[2])
    _check_key(key_id, key)
    return key_id, _encode(_decode(key))
