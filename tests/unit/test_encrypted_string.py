import copy
import json
import logging
import pickle
import traceback
from uuid import UUID

import pytest
from alembic.autogenerate import render_python_code
from alembic.migration import MigrationContext
from alembic.operations.ops import AddColumnOp, CreateTableOp, UpgradeOps
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    func,
    insert,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from shared.infrastructure.database.tenant_context import (
    TenantContext,
    TenantContextMissing,
    enter_context,
    leave_context,
)
from shared.infrastructure.encryption import (
    EncryptedString,
    EncryptionManager,
    EncryptionNotConfigured,
    InvalidSecret,
    KeyRing,
    SecretNotComparable,
    SecretWithoutTenant,
    Tampered,
    UnknownVersion,
    configure_encryption,
)
from shared.kernel.errors import Misconfigured
from shared.kernel.secret import Secret

MARK = "EAAG-canary-7f3a"
ALPHA, BETA = UUID(int=0xA), UUID(int=0xB)
metadata = MetaData()
channels = Table(
    "channels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, unique=True),
    Column("access_token", EncryptedString("channels", "access_token")),
    Column("app_secret", EncryptedString("channels", "app_secret")),
    Column("checked_at", DateTime),
)
apps = Table(
    "apps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("secret", EncryptedString("apps", "secret", tenant_bound=False), nullable=False),
)


class Model(DeclarativeBase):
    pass


class ChannelModel(Model):
    __table__ = Table("channels", Model.metadata, *(c._copy() for c in channels.c))


@pytest.fixture(autouse=True)
def ring():
    ring = KeyRing.generate()
    configure_encryption(EncryptionManager(ring))
    yield ring
    configure_encryption(None)


class Tenant:
    def __init__(self, tenant):
        self.context = TenantContext(tenant)

    def __enter__(self):
        self.token = enter_context(self.context)

    def __exit__(self, *_):
        leave_context(self.token)


@pytest.fixture
def database(caplog):
    """In memory, so that the type is met as SQLAlchemy uses it, without a server."""
    caplog.set_level(logging.INFO, logger="sqlalchemy.engine")
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _raw(database, column):
    return database.scalar(select(type_coerce(column, LargeBinary)))


def _shown(error):
    """Everything that a tracker walking the exception could find."""
    found, todo = [], [error]
    while todo:
        one = todo.pop()
        if one is not None and one not in found:
            found.append(one)
            todo += [one.__cause__, one.__context__, getattr(one, "orig", None)]
    shown = ["".join(traceback.format_exception(error))]
    return " ".join([*shown, *(f"{e!r} {e} {vars(e)} {getattr(e, 'params', '')}" for e in found)])


@pytest.mark.parametrize("token", [Secret(MARK), MARK])
def test_a_token_lies_encrypted_and_comes_back_as_a_secret(database, token):
    with Tenant(ALPHA):
        database.execute(insert(channels).values(id=1, access_token=token))
        row = database.execute(select(channels.c.access_token)).one()

    assert row.access_token == Secret(MARK)
    assert MARK not in repr(row)
    assert MARK.encode() not in _raw(database, channels.c.access_token)


def test_nothing_stays_nothing(database):
    database.execute(insert(channels).values(id=1, access_token=None))

    assert database.scalar(select(channels.c.access_token)) is None
    assert _raw(database, channels.c.access_token) is None


def test_a_tokens_column_is_part_of_it(database):
    with Tenant(ALPHA):
        database.execute(insert(channels).values(id=1, access_token=MARK))
        database.execute(text("UPDATE channels SET app_secret = access_token"))
        with pytest.raises(Tampered, match=r"channels\.app_secret"):
            database.scalar(select(channels.c.app_secret))


def test_a_tokens_tenant_is_part_of_it(database):
    with Tenant(ALPHA):
        database.execute(insert(channels).values(id=1, access_token=MARK))
    with Tenant(BETA), pytest.raises(Tampered):
        database.scalar(select(channels.c.access_token))
    with pytest.raises(SecretWithoutTenant):
        database.scalar(select(channels.c.access_token))


def test_a_platform_secret_needs_no_tenant_and_ignores_one(database):
    database.execute(insert(apps).values(id=1, secret=MARK))
    with Tenant(ALPHA):
        assert database.scalar(select(apps.c.secret)) == Secret(MARK)


def test_text_put_in_by_hand_is_never_taken_for_a_token(database):
    by_hand = type_coerce(MARK.encode(), LargeBinary)
    database.execute(insert(apps).values(id=1, secret=by_hand))

    with pytest.raises(UnknownVersion) as refused:
        database.scalar(select(apps.c.secret))

    assert MARK not in _shown(refused.value)


def test_a_cached_statement_uses_the_tenant_and_key_of_now(database, ring):
    for tenant in (ALPHA, BETA):
        with Tenant(tenant):
            database.execute(insert(channels).values(id=tenant.int, access_token=MARK))
    configure_encryption(EncryptionManager(ring.with_key().promote(2)))
    for tenant in (ALPHA, BETA, ALPHA):
        with Tenant(tenant):
            one = select(channels.c.access_token).where(channels.c.id == tenant.int)
            assert database.scalar(one) == Secret(MARK)


def test_the_orm_stores_reads_and_notices_changes(database):
    with Tenant(ALPHA), Session(database) as session:
        session.add(ChannelModel(id=1, access_token=Secret(MARK)))
        session.commit()
        row = session.scalars(select(ChannelModel)).unique().one()
        row.access_token = Secret(MARK)
        assert not session.is_modified(row), "the same token is not a change"
        row.access_token = Secret("another")
        session.commit()
        assert session.scalar(select(ChannelModel.access_token)) == Secret("another")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("", InvalidSecret),
        (Secret(""), InvalidSecret),
        (f"{MARK}\ud800", InvalidSecret),
        (Secret(f"{MARK}\ud800"), InvalidSecret),
        (MARK.encode(), InvalidSecret),
        ([MARK], InvalidSecret),
    ],
)
def test_what_cannot_be_stored_is_refused_without_being_shown(database, value, error):
    with Tenant(ALPHA), pytest.raises(error) as refused:
        database.execute(insert(channels).values(id=1, access_token=value, app_secret=MARK))

    assert MARK not in _shown(refused.value)
    assert not isinstance(refused.value, StatementError)


def test_a_missing_tenant_is_an_error_that_does_not_show_the_token(database):
    with pytest.raises(TenantContextMissing) as refused:
        database.execute(insert(channels).values(id=1, access_token=MARK))

    assert MARK not in _shown(refused.value)


def test_missing_keys_are_an_error_that_does_not_show_the_token(database):
    configure_encryption(None)
    with Tenant(ALPHA), pytest.raises(EncryptionNotConfigured) as refused:
        database.execute(insert(channels).values(id=1, access_token=MARK))

    assert MARK not in _shown(refused.value)


def test_the_database_and_its_errors_see_only_ciphertext(database, caplog):
    with Tenant(ALPHA):
        database.execute(insert(channels).values(id=1, name="a", access_token=MARK))
        with pytest.raises(IntegrityError) as failed:
            database.execute(insert(channels).values(id=2, name="a", access_token=MARK))

    assert "INSERT INTO channels" in caplog.text
    assert MARK not in caplog.text
    assert MARK not in _shown(failed.value)


def test_a_secret_stays_hidden_when_another_column_of_its_row_fails(database):
    with Tenant(ALPHA), pytest.raises(StatementError) as failed:
        database.execute(
            insert(channels).values(id=1, access_token=Secret(MARK), checked_at="no date")
        )

    assert MARK not in _shown(failed.value)


@pytest.mark.parametrize("value", [MARK, Secret(MARK)])
def test_a_token_never_becomes_part_of_a_statements_text(value):
    statement = insert(channels).values(id=1, access_token=value)
    with Tenant(ALPHA), pytest.raises(SecretNotComparable) as refused:
        statement.compile(compile_kwargs={"literal_binds": True})

    assert MARK not in _shown(refused.value)


@pytest.mark.parametrize(
    "compare",
    [
        lambda c: c == MARK,
        lambda c: c == Secret(MARK),
        lambda c: Secret(MARK) == c,
        lambda c: c != MARK,
        lambda c: c.in_([MARK]),
        lambda c: c.like("EAAG%"),
        lambda c: c + MARK,
        lambda c: MARK + c,
        lambda c: c < MARK,
        lambda c: c == channels.c.app_secret,
        lambda c: c.desc(),
    ],
)
def test_a_token_cannot_be_searched_for_since_nothing_would_ever_be_found(compare):
    with pytest.raises(SecretNotComparable) as refused:
        compare(channels.c.access_token)

    assert MARK not in _shown(refused.value)


def test_a_token_can_be_tested_for_being_there(database):
    with Tenant(ALPHA):
        database.execute(insert(channels).values(id=1, access_token=MARK))
        database.execute(insert(channels).values(id=2, access_token=None))
    token = channels.c.access_token

    for there in (token.is_not(None), token != None):  # noqa: E711  # SQLAlchemy's spelling
        assert database.scalars(select(channels.c.id).where(there)).all() == [1]
    for absent in (token.is_(None), token == None):  # noqa: E711  # as above
        assert database.scalars(select(channels.c.id).where(absent)).all() == [2]
    assert database.scalar(select(func.count(token))) == 1


def test_columns_of_different_bindings_do_not_share_cached_statements():
    keys = {
        EncryptedString(*names, tenant_bound=bound)._static_cache_key
        for names in (("channels", "a"), ("channels", "b"), ("apps", "a"))
        for bound in (True, False)
    }

    assert len(keys) == 6


@pytest.mark.parametrize("names", [("", "a"), ("a", "")])
def test_a_type_without_a_place_is_refused(names):
    with pytest.raises(Misconfigured):
        EncryptedString(*names)


@pytest.mark.parametrize("make", [lambda t: t, copy.deepcopy, lambda t: t.copy()])
@pytest.mark.parametrize("show", [repr, str, "{}".format, lambda t: str(vars(t))])
def test_the_type_and_its_copies_show_their_place_and_no_key(ring, make, show):
    shown = show(make(EncryptedString("channels", "access_token")))

    assert ring.to_setting().reveal()[2:12] not in shown


def test_the_type_names_its_binding():
    assert repr(EncryptedString("channels", "access_token")) == (
        "EncryptedString('channels', 'access_token')"
    )
    assert repr(EncryptedString("apps", "secret", tenant_bound=False)) == (
        "EncryptedString('apps', 'secret', tenant_bound=False)"
    )
    assert eval(repr(apps.c.secret.type)).tenant_bound is False  # noqa: S307  # our own repr


@pytest.mark.parametrize("leave", [pickle.dumps, json.dumps, lambda row: json.dumps(vars(row))])
def test_a_row_does_not_carry_its_token_away(database, leave):
    with Tenant(ALPHA), Session(database) as session:
        session.add(ChannelModel(id=1, access_token=Secret(MARK)))
        session.flush()
        session.expire_all()
        row = session.scalars(select(ChannelModel)).one()

        assert MARK not in f"{row!r} {vars(row)}"
        with pytest.raises(TypeError) as refused:
            leave(row)

    assert MARK not in str(refused.value)


def test_a_row_as_a_mapping_does_not_show_its_token(database):
    with Tenant(ALPHA):
        database.execute(insert(channels).values(id=1, access_token=MARK))
        row = database.execute(select(channels)).mappings().one()

    assert MARK not in f"{row!r} {dict(row)}"


def test_alembic_renders_the_place_and_no_key(ring):
    context = MigrationContext.configure(dialect_name="postgresql")
    operations = UpgradeOps(
        [
            CreateTableOp("channels", [c._copy() for c in channels.c]),
            AddColumnOp("apps", apps.c.secret._copy()),
        ]
    )
    rendered = render_python_code(operations, migration_context=context)

    assert "EncryptedString('channels', 'access_token')" in rendered
    assert "EncryptedString('apps', 'secret', tenant_bound=False)" in rendered
    assert ring.to_setting().reveal()[2:12] not in rendered


def test_the_type_is_bytes_in_postgresql():
    dialect = postgresql.dialect()
    assert EncryptedString("channels", "access_token").compile(dialect) == "BYTEA"


def test_a_typed_model_column_is_a_secret():
    class AppModel(Model):
        __tablename__ = "apps"
        id: Mapped[int] = mapped_column(primary_key=True)
        secret: Mapped[Secret] = mapped_column(EncryptedString("apps", "secret"))

    assert AppModel.__table__.c.secret.type.python_type is Secret
