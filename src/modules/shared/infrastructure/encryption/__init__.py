"""AES-256-GCM with a key ring, and the column type that uses it."""

from shared.infrastructure.encryption.encrypted_string import EncryptedString
from shared.infrastructure.encryption.encryption_manager import (
    Binding,
    EncryptionManager,
    configure_encryption,
    current_encryption,
)
from shared.infrastructure.encryption.errors import (
    DecryptionFailed,
    EncryptionNotConfigured,
    InvalidKeyRing,
    InvalidSecret,
    Malformed,
    SecretNotComparable,
    SecretWithoutTenant,
    Tampered,
    UnknownKeyId,
    UnknownVersion,
)
from shared.infrastructure.encryption.key_ring import KeyFile, KeyRing

__all__ = [
    "Binding",
    "DecryptionFailed",
    "EncryptedString",
    "EncryptionManager",
    "EncryptionNotConfigured",
    "InvalidKeyRing",
    "InvalidSecret",
    "KeyFile",
    "KeyRing",
    "Malformed",
    "SecretNotComparable",
    "SecretWithoutTenant",
    "Tampered",
    "UnknownKeyId",
    "UnknownVersion",
    "configure_encryption",
    "current_encryption",
]
