"""`tellwire doctor`: is everything there, and is it as it should be?"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import typer

from shared.infrastructure.database import refuse_endless_transactions
from shared.infrastructure.settings import DatabaseRole, Settings, load_settings
from shared.kernel.errors import TellwireError
from tellwire.database import refuse_other_schema
from tellwire.embedded.services import reachable_services
from tellwire.resources import load_key_ring, open_database, open_redis
from tellwire.terminal import console, run

_PROCESS_ROLES = (
    DatabaseRole.APP,
    DatabaseRole.DISPATCH,
    DatabaseRole.INTAKE,
    DatabaseRole.PROCESS,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `problem` says what to do, and is empty if it is well."""

    what: str
    problem: str = ""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(doctor)


def doctor() -> None:
    """Check settings, database roles, schema, Redis and encryption keys; exit 1 on a problem."""

    async def examine() -> list[Finding]:
        async with reachable_services(load_settings()) as settings:
            return [finding async for finding in examinations(settings)]

    findings = run(examine())
    for finding in findings:
        mark = "[red]x[/]" if finding.problem else "[green]ok[/]"
        said = f"{mark:>2} {finding.what} {finding.problem}".rstrip()
        console.print(said, highlight=False, soft_wrap=True)
    if any(finding.problem for finding in findings):
        raise typer.Exit(1)


async def examinations(settings: Settings) -> AsyncIterator[Finding]:
    """Look at one thing after the other; none hides the next."""
    yield await _look("encryption keys", partial(_keys, settings))
    for role in _PROCESS_ROLES:
        yield await _look(f"database role {role.value}", partial(_role, settings, role))
    yield await _look("database schema", partial(_schema, settings))
    yield await _look("Redis", partial(_redis, settings))


async def _look(what: str, check: Callable[[], Awaitable[None]]) -> Finding:
    try:
        await check()
    except TellwireError as error:
        return Finding(what, f"{error.code}: {error.detail}")
    except OSError as error:
        return Finding(what, f"cannot be reached: {type(error).__name__}")
    return Finding(what)


async def _keys(settings: Settings) -> None:
    load_key_ring(settings)


async def _role(settings: Settings, role: DatabaseRole) -> None:
    async with open_database(settings, role) as engine:
        await refuse_endless_transactions(engine)


async def _schema(settings: Settings) -> None:
    async with open_database(settings, DatabaseRole.APP) as engine:
        await refuse_other_schema(engine)


async def _redis(settings: Settings) -> None:
    async with open_redis(settings):
        return
