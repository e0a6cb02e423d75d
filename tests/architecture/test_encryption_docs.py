"""Operators read from docs/encryption.md what is encrypted and how it is bound."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import tenancy.infrastructure
import whatsapp.infrastructure.persistence
from shared.infrastructure.database import Base
from shared.infrastructure.encryption import errors
from shared.infrastructure.encryption.errors import (
    DecryptionFailed,
    InvalidKeyRing,
    KeyFileUnreadable,
)
from shared.infrastructure.encryption.rotation import encrypted_columns
from shared.kernel.ids import new_id

DOCUMENT = Path(__file__).parents[2] / "docs" / "encryption.md"


def _schema():
    for package in (tenancy.infrastructure, whatsapp.infrastructure.persistence):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return Base.metadata


def test_every_encrypted_column_and_its_binding_are_documented():
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    columns = encrypted_columns(_schema())
    assert columns

    for column in columns:
        documented = [row for row in rows if f"`{column.table.name}.{column.name}`" in row]
        assert len(documented) == 1, column
        binds_tenant = column.binding(new_id()).tenant_id is not None
        assert ("| yes | yes |" in documented[0]) is binds_tenant, column


def test_columns_of_tenant_tables_are_bound_to_their_tenant():
    unbound = [c for c in encrypted_columns(_schema()) if c.per_tenant and not c.type.tenant_bound]

    assert unbound == []


@pytest.mark.parametrize("base", [DecryptionFailed, InvalidKeyRing, KeyFileUnreadable])
def test_every_error_of_keys_and_values_is_documented(base):
    text = DOCUMENT.read_text()
    codes = {e.code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, base)}

    assert {code for code in codes if f"`{code}`" not in text} == set()
