"""A column type whose values lie encrypted in the database and come back as `Secret`."""

# ruff: noqa: ARG002  # SQLAlchemy passes the dialect to every method of a type; this one needs none.

from typing import Any, Final, Never

from sqlalchemy import Dialect, LargeBinary
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement, Null
from sqlalchemy.types import TypeDecorator

from shared.infrastructure.database.tenant_context import current_context
from shared.infrastructure.encryption.encryption_manager import Binding, current_encryption
from shared.infrastructure.encryption.errors import (
    DecryptionFailed,
    SecretNotComparable,
    SecretWithoutTenant,
)
from shared.kernel.errors import Misconfigured
from shared.kernel.secret import Secret, UnreadableSecret

_NULL_TESTS: Final = (operators.is_, operators.is_not, operators.eq, operators.ne)


class _NullTestsOnly(TypeDecorator.Comparator[Secret]):
    """Lets an encrypted column be tested for NULL: every other comparison silently never holds."""

    def operate(self, op: operators.OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        if op in _NULL_TESTS and all(o is None or isinstance(o, Null) for o in other):
            return super().operate(op, *other, **kwargs)
        raise SecretNotComparable

    def reverse_operate(self, *_: Any, **__: Any) -> Never:
        raise SecretNotComparable


class EncryptedString(TypeDecorator[Secret]):
    """Text that is `Secret` (or str, when given) in Python and AES-256-GCM in the database.

    Bound to `table`, `column` and the tenant of the running task (`RLSManager` sets it); with
    `tenant_bound=False`, for tables of the platform itself, to table and column alone. The two
    names are part of the stored format: keep them when a table or column is renamed. NULL stays
    NULL. Binding raises SecretWithoutTenant, EncryptionNotConfigured or InvalidSecret before
    anything is sent; reading raises DecryptionFailed, or with `one_by_one` gives an
    `UnreadableSecret` that raises it when it is revealed, so that other rows are not lost with it.
    """

    impl = LargeBinary
    cache_ok = True
    hashable = False  # as `Secret` is, so that SQLAlchemy says so where it would need a hash
    # SQLAlchemy documents a class here; its annotation is that of the property behind it.
    comparator_factory = _NullTestsOnly  # pyright: ignore[reportAssignmentType]  # as above

    # SQLAlchemy leaves keyword-only arguments out of the key under which it caches statements: two
    # columns that differ in one alone would share processors, and with them a binding.
    def __init__(
        self,
        table: str,
        column: str,
        tenant_bound: bool = True,  # noqa: FBT001, FBT002  # see above
        one_by_one: bool = False,  # noqa: FBT001, FBT002  # see above
    ) -> None:
        if not table or not column:
            raise Misconfigured("EncryptedString needs the names of its table and column")
        super().__init__()
        self.table = table
        self.column = column
        self.tenant_bound = tenant_bound
        self.one_by_one = one_by_one

    @property
    def python_type(self) -> type[Secret]:
        """What values come back as."""
        return Secret

    def binding(self) -> Binding:
        """Where values belong that are bound or read right now."""
        if not self.tenant_bound:
            return Binding(self.table, self.column, None)
        context = current_context()
        if context is None:
            raise SecretWithoutTenant
        return Binding(self.table, self.column, context.tenant_id)

    def process_bind_param(self, value: Secret | str | None, dialect: Dialect) -> bytes | None:
        """Encrypt on the way to the database."""
        return None if value is None else current_encryption().encrypt(value, self.binding())

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Secret | None:
        """Decrypt on the way back."""
        return None if value is None else self.open(value)

    def open(self, stored: bytes) -> Secret:
        """Decrypt what a statement gave that went past SQLAlchemy's types."""
        try:
            return current_encryption().decrypt(stored, self.binding())
        except DecryptionFailed as error:
            if not self.one_by_one:
                raise
            return UnreadableSecret(error)

    def literal_processor(self, dialect: Dialect) -> Never:
        """Refuse: a secret never becomes part of the text of a statement."""
        # Not in `process_literal_param`: the compiler wraps what is raised there in an error that
        # quotes the value.
        raise SecretNotComparable("An encrypted column is never written as a literal")

    def __repr__(self) -> str:
        bound = "" if self.tenant_bound else ", tenant_bound=False"
        alone = ", one_by_one=True" if self.one_by_one else ""
        return f"{type(self).__name__}({self.table!r}, {self.column!r}{bound}{alone})"
