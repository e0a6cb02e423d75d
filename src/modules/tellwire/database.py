"""Everything that speaks of the schema as a whole: which models there are, and migrating them."""

import asyncio
import importlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database import DatabaseFailed
from shared.infrastructure.database.driver_errors import translate, translated
from shared.kernel.errors import InvalidInput, Misconfigured, TellwireError

_MODELS = ("tenancy.infrastructure.models", "whatsapp.infrastructure.persistence.models")


class UnknownRevision(InvalidInput):
    """The schema has no such revision, or the database has one of a later release."""

    code = "unknown_revision"
    title = "This release does not know that revision of the schema"


def load_models() -> None:
    """Import every module that declares tables, so that the metadata is complete."""
    for module in _MODELS:
        importlib.import_module(module)


def _migrations() -> Path:
    """The revisions: packaged in a wheel, beside `src` in a checkout."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "migrations"


def alembic_config(owner_url: str) -> Config:
    """Alembic's configuration for `owner_url`, made in code: no file repeats the settings."""
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    config.attributes["url"] = owner_url
    return config


def migrate(owner_url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`, as the owner; safe to run again, and by several at once.

    Blocks; it runs an event loop of its own, so call it outside one (or see `migrate_async`).
    Raises UnknownRevision, DatabaseUnavailable.
    """
    ours: TellwireError | None = None
    try:
        command.upgrade(alembic_config(owner_url), revision)
    except CommandError:
        raise UnknownRevision from None
    except Exception as error:
        ours = translate(error, {})
        # What a revision itself does wrong is for developers to read as it is.
        if ours is None or (not ours.retryable and isinstance(error, SQLAlchemyError)):
            raise
    if ours is not None:
        raise ours


async def refuse_other_schema(engine: AsyncEngine) -> None:
    """Raise Misconfigured unless the schema is the one that this release was made for."""
    revisions = ScriptDirectory.from_config(alembic_config(""))
    newest = revisions.get_current_head()
    stored: str | None = None
    try:
        async with translated(), engine.connect() as connection:
            stored = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    except DatabaseFailed:
        stored = "none"  # There is no such table: nothing was ever migrated.
    if stored != newest:
        known = {each.revision for each in revisions.walk_revisions()} | {None, "none"}
        # An old release can take nothing back that a newer one has made.
        todo = "run tellwire migrate" if stored in known else "start the release that migrated it"
        raise Misconfigured(
            f"The schema is at revision {stored}, this release needs {newest}: {todo}"
        )


async def migrate_async(owner_url: str, revision: str = "head") -> None:
    """As `migrate`, from within an event loop."""
    await asyncio.to_thread(migrate, owner_url, revision)
