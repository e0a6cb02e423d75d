import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, Text

from shared.infrastructure.encryption import EncryptedString
from shared.infrastructure.encryption.rotation import encrypted_columns
from shared.kernel.errors import Misconfigured
from shared.kernel.ids import new_id


def _schema(*bindings):
    metadata = MetaData()
    for number, (table, column, bound) in enumerate(bindings):
        Table(
            f"table_{number}",
            metadata,
            Column("tenant_id", Integer, primary_key=True),
            Column("name", Text),
            Column("value", EncryptedString(table, column, bound)),
        )
    return metadata


def test_encrypted_columns_are_found_in_the_schema():
    first, second = encrypted_columns(_schema(("a", "x", True), ("b", "x", False)))

    assert (first.table.name, first.name, first.per_tenant) == ("table_0", "value", True)
    tenant = new_id()
    assert first.binding(tenant).tenant_id == tenant
    assert second.binding(tenant).tenant_id is None


def test_columns_are_found_though_a_table_they_refer_to_is_described_elsewhere():
    metadata = _schema(("a", "x", True))
    metadata.tables["table_0"].c.tenant_id.append_foreign_key(ForeignKey("tenants.id"))

    assert len(encrypted_columns(metadata)) == 1


@pytest.mark.parametrize("bound", [True, False])
def test_two_columns_may_not_share_a_binding(bound):
    with pytest.raises(Misconfigured, match=r"a\.x"):
        encrypted_columns(_schema(("a", "x", True), ("b", "x", True), ("a", "x", bound)))
