"""What can go wrong with keys and encrypted columns; no text here ever holds a key or a value.

Errors that may arise while SQLAlchemy binds parameters are `DontWrapMixin`: SQLAlchemy would
otherwise wrap them in a StatementError that carries every raw parameter, the plaintext among them.
"""

from sqlalchemy.exc import DontWrapMixin

from shared.infrastructure.database.tenant_context import TenantContextMissing
from shared.kernel.errors import InvalidInput, Misconfigured, SecretUnreadable, TellwireError


class InvalidKeyRing(Misconfigured):
    """The keys cannot be used as given; the detail says what to do."""

    code = "key_ring_invalid"
    title = "TELLWIRE_ENCRYPTION_KEYS is not a valid key ring"


class EmptyKeyRing(InvalidKeyRing):
    """There is no key at all."""

    code = "key_ring_empty"
    title = "The key ring is empty: give at least one <id>:<key>, made by KeyRing.generate()"


class MalformedKey(InvalidKeyRing):
    """An entry is not `<id>:<base64url key>`."""

    code = "key_malformed"
    title = "A key is written <id>:<key>, the id a number and the key base64url without spaces"


class InvalidKeyId(InvalidKeyRing):
    """A key id does not fit into 32 bits without a sign."""

    code = "key_id_invalid"
    title = "A key id is a number from 0 to 4294967295"


class WrongKeyLength(InvalidKeyRing):
    """A key is not 32 bytes long."""

    code = "key_length_wrong"
    title = "A key is 32 bytes, which is 43 characters of base64url"


class DuplicateKey(InvalidKeyRing):
    """Two entries have the same id, or the same material under two ids."""

    code = "key_duplicate"
    title = "Each key of a ring has an id and material of its own"


class KeyNotInRing(InvalidKeyRing):
    """A key id was named that the ring does not have."""

    code = "key_not_in_ring"
    title = "The ring has no key with this id"


class KeyInUse(InvalidKeyRing):
    """The primary key cannot be taken out of the ring."""

    code = "key_in_use"
    title = "The primary key cannot be removed: promote another one and rotate first"


class KeyFileUnreadable(Misconfigured):
    """The key file is missing or cannot be read or written; the detail names it."""

    code = "key_file_unreadable"
    title = "The key file cannot be read"


class KeyFileExposed(Misconfigured):
    """Others than its owner may read or change the key file; the detail names it."""

    code = "key_file_exposed"
    title = "The key file may be read by others: give it mode 0600"


class EncryptionNotConfigured(DontWrapMixin, Misconfigured):
    """An encrypted column was used before `configure_encryption`."""

    code = "encryption_not_configured"
    title = "Call configure_encryption(EncryptionManager(key_ring)) once when starting"


class InvalidSecret(DontWrapMixin, InvalidInput):
    """What was to be encrypted is not a text that can be stored; `field` names the column."""

    code = "invalid_secret"
    title = "A secret to be stored is text that is not empty"


class SecretNotComparable(DontWrapMixin, TellwireError):
    """An encrypted column was compared, sorted or written as a literal, which never can match."""

    code = "secret_not_comparable"
    title = "An encrypted column can be read, set and tested for NULL, and nothing else"


class SecretWithoutTenant(DontWrapMixin, TenantContextMissing):
    """A tenant's secret was bound or read without a tenant; nothing was sent to the database."""

    code = "secret_without_tenant"
    title = "A tenant's secret needs a tenant context: enter RLSManager(session) first"


class DecryptionFailed(SecretUnreadable):
    """A stored value does not open; the detail names `table.column` and never the value.

    Trying again gives the same answer: take what the secret belongs to out of use and alert.
    """

    code = "decryption_failed"
    title = "A stored secret cannot be read"


class UnknownVersion(DecryptionFailed):
    """The first byte names no format of ours (a newer release, or plaintext put in by hand)."""

    code = "decryption_unknown_version"
    title = "A stored secret is not in a format that this release knows"


class UnknownKeyId(DecryptionFailed):
    """The value was encrypted with a key that the ring does not have (any more)."""

    code = "decryption_unknown_key"
    title = "A stored secret was encrypted with a key that the ring does not have"


class Tampered(DecryptionFailed):
    """The value was changed, moved to another column or tenant, or the key's material differs."""

    code = "decryption_tampered"
    title = "A stored secret was changed or moved, or its key is another one now"


class Malformed(DecryptionFailed):
    """The value is too short or not bytes, or does not hold text."""

    code = "decryption_malformed"
    title = "A stored secret is cut short or holds no text"
