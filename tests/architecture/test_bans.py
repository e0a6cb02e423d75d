"""What may be done in a few named places only. Each place says why; one that is gone is an error.

Names are followed through imports, so that an alias does not hide them.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

Finder = Callable[[ast.Module], Iterator[ast.AST]]


@dataclass(frozen=True, slots=True)
class Ban:
    """What `find` finds is banned outside `allowed` (path: reason); it finds every `example`."""

    name: str
    find: Finder
    allowed: Mapping[str, str]
    examples: tuple[str, ...]
    harmless: tuple[str, ...] = ()


def _origins(tree: ast.Module) -> dict[str, str]:
    """What each imported name of a file is called where it comes from."""
    origins = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                origins[bound] = alias.name if alias.asname else bound
    return origins


def _dotted(node: ast.AST, origins: Mapping[str, str]) -> str:
    """The full name that an expression like `dt.datetime.now` stands for; empty for others."""
    if isinstance(node, ast.Name):
        return origins.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, origins)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def uses_of(*names: str) -> Finder:
    def find(tree: ast.Module) -> Iterator[ast.AST]:
        origins = _origins(tree)
        return (node for node in ast.walk(tree) if _dotted(node, origins) in names)

    return find


def calls_of(*names: str) -> Finder:
    def find(tree: ast.Module) -> Iterator[ast.AST]:
        origins = _origins(tree)
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
        return (node for node in calls if _dotted(node.func, origins) in names)

    return find


def imports_of(*roots: str) -> Finder:
    def find(tree: ast.Module) -> Iterator[ast.AST]:
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            if any(name == root or name.startswith(f"{root}.") for name in names for root in roots):
                yield node

    return find


def text_with(part: str) -> Finder:
    def find(tree: ast.Module) -> Iterator[ast.AST]:
        strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
        return (node for node in strings if isinstance(node.value, str) and part in node.value)

    return find


def _task_groups(tree: ast.Module, origins: Mapping[str, str]) -> set[str]:
    """The names under which a file knows task groups."""
    groups = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            if _dotted(node.annotation, origins) == "asyncio.TaskGroup":
                groups.add(node.arg)
        elif isinstance(node, ast.withitem) and isinstance(node.context_expr, ast.Call):
            is_group = _dotted(node.context_expr.func, origins) == "asyncio.TaskGroup"
            if is_group and isinstance(node.optional_vars, ast.Name):
                groups.add(node.optional_vars.id)
    return groups


def _loose_tasks(tree: ast.Module) -> Iterator[ast.AST]:
    """Tasks that belong to no group: nobody awaits them, and what they raise is lost."""
    origins = _origins(tree)
    groups = _task_groups(tree, origins)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if _dotted(node.func, origins) in {"asyncio.create_task", "asyncio.ensure_future"}:
            yield node
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "create_task":
            owner = node.func.value
            if not (isinstance(owner, ast.Name) and owner.id in groups):
                yield node


def _printing(tree: ast.Module) -> Iterator[ast.AST]:
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return (name for name in names if name.id in {"print", "pprint"})


_LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_LOGGERS = {"logger", "_logger", "log", "_log", "logging"}


def _built_log_texts(tree: ast.Module) -> Iterator[ast.AST]:
    """Log calls whose text is put together first: such texts cannot be counted or redacted."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value
        logs = isinstance(owner, ast.Name) and owner.id in _LOGGERS and node.func.attr in _LEVELS
        if logs and any(isinstance(arg, ast.JoinedStr | ast.BinOp) for arg in node.args):
            yield node


BANS = (
    Ban(
        "the tenant setting's name",
        text_with("app.jwt_tenant"),
        {"shared/infrastructure/database/rls.py": "the one place that sets it"},
        ('x = "app.jwt_tenant"', "x = f\"SET app.jwt_tenant = '{y}'\""),
    ),
    Ban(
        "raw SQL",
        uses_of("sqlalchemy.text", "sqlalchemy.sql.text", "sqlalchemy.sql.expression.text"),
        {
            "shared/infrastructure/database/engine.py": "asks PostgreSQL's catalogue about roles",
            "shared/infrastructure/database/rls.py": "set_config",
            "tellwire/api.py": "asks whether the database answers at all",
            "tellwire/database.py": "the revision of the schema, in Alembic's own table",
            "whatsapp/infrastructure/persistence/models/account.py": "a partial index",
            "whatsapp/infrastructure/persistence/models/message.py": "a partial index",
            "whatsapp/infrastructure/persistence/models/conversation.py": "partial indexes",
            "whatsapp/infrastructure/persistence/repositories/accept_statements.py": "judges and "
            "stores in one statement",
            "whatsapp/infrastructure/persistence/repositories/account_repository.py": "keeps the "
            "newest of each fact",
            "whatsapp/infrastructure/persistence/repositories/webhook_inbox.py": "writes down what "
            "is new, in one statement",
            "whatsapp/infrastructure/persistence/repositories/conversation_statements.py": "CTEs "
            "that find or make",
            "whatsapp/infrastructure/persistence/repositories/media_statements.py": "claims, and "
            "CTEs that change several tables",
            "whatsapp/infrastructure/persistence/repositories/delivery_statements.py": "claims",
            "whatsapp/infrastructure/persistence/repositories/event_statements.py": "CTEs that "
            "change several tables",
            "whatsapp/infrastructure/persistence/repositories/retry_statements.py": "a CTE that "
            "changes several tables",
            "whatsapp/infrastructure/persistence/repositories/message_statements.py": "CTEs that "
            "change several tables",
            "whatsapp/infrastructure/persistence/repositories/queue_statements.py": "claims",
            "whatsapp/infrastructure/persistence/repositories/webhook_queue.py": "claims",
            "whatsapp/infrastructure/persistence/repositories/webhook_quarantine.py": "a CTE that "
            "moves rows between two tables",
        },
        (
            "from sqlalchemy import text\ntext('x')",
            "import sqlalchemy as sa\nsa.text('x')",
            "from sqlalchemy import text as t\nt('x')",
        ),
        ("from ours import text\ntext('x')",),
    ),
    Ban(
        "an HTTP client",
        calls_of("aiohttp.ClientSession", "aiohttp.request"),
        {
            "tellwire/cli/messages.py": "speaks to our own API",
            "tellwire/demo/run.py": "speaks to our own API and the simulator",
            "whatsapp/infrastructure/cloud_api/client.py": "speaks to Meta",
            "whatsapp/infrastructure/event_delivery/guarded_session.py": "speaks to endpoints of "
            "tenants, at addresses that are allowed",
            "whatsapp_simulator/server.py": "the simulator waits for the receiver of its webhooks",
            "whatsapp_simulator/webhooks.py": "the simulator delivers webhooks",
        },
        ("import aiohttp\naiohttp.ClientSession()", "from aiohttp import request\nrequest('GET')"),
        ("import aiohttp\ndef f(http: aiohttp.ClientSession): ...",),
    ),
    Ban(
        "another HTTP client than aiohttp",
        imports_of("httpx", "requests", "urllib.request", "urllib3", "http.client"),
        {},
        ("import httpx", "from urllib.request import urlopen"),
        ("from urllib.parse import quote",),
    ),
    Ban(
        "random UUIDs (ids are UUIDv7: shared.kernel.ids)",
        uses_of("uuid.uuid1", "uuid.uuid4"),
        {
            "shared/infrastructure/database/engine.py": "names of prepared statements, no ids",
            "whatsapp/infrastructure/persistence/repositories/media_queue.py": "as below",
            "whatsapp/infrastructure/persistence/repositories/delivery_queue.py": "as below",
            "whatsapp/infrastructure/persistence/repositories/send_queue.py": "fencing tokens must "
            "not be guessed from one another",
            "whatsapp/infrastructure/persistence/repositories/webhook_queue.py": "as above",
        },
        ("from uuid import uuid4\nuuid4()", "import uuid\nfield(default_factory=uuid.uuid4)"),
        ("from uuid import UUID\nUUID(int=1)",),
    ),
    Ban(
        "the wall clock (it is injected: shared.kernel.clock)",
        uses_of(
            *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"),
            *("datetime.date.today", "time.time", "time.time_ns"),
        ),
        {
            "shared/kernel/clock.py": "is the clock",
            "shared/kernel/ids.py": "the timestamp inside a UUIDv7",
            "whatsapp_simulator/clock.py": "the simulator's own clock",
        },
        (
            "from datetime import datetime\ndatetime.now(UTC)",
            "import datetime as dt\ndt.datetime.utcnow()",
            "from time import time\ntime()",
        ),
        ("import time\ntime.monotonic()",),
    ),
    Ban(
        "tasks without a group",
        _loose_tasks,
        {
            "tellwire/supervisor.py": "keeps processes beyond the task that asked for them, and "
            "awaits each of them in `_end`",
            "shared/kernel/together.py": "a run for all who ask in one turn, who await it; "
            "ends with its own time-out",
            "whatsapp_simulator/server.py": "the simulator's background jobs, cancelled on exit",
            "whatsapp/application/receive_webhook.py": "one look-up for all who ask, each of whom "
            "awaits it; ends with the statement's own time-out",
            "whatsapp/application/read_together.py": "a transaction for all who read at once, who "
            "await what they ask; over when the last has left, its statements have time-outs",
            "whatsapp/application/record_results.py": "a transaction for all channels of a tenant, "
            "each of which awaits its own outcomes; cancelled by `stop`",
            "whatsapp/infrastructure/persistence/repositories/webhook_inbox.py": "a writer for all "
            "who append, each of whom awaits it; ends with the statement's own time-out",
        },
        (
            "import asyncio\nasyncio.create_task(x())",
            "from asyncio import ensure_future\nensure_future(x())",
            "import asyncio\nasyncio.get_running_loop().create_task(x())",
        ),
        (
            "import asyncio\nasync with asyncio.TaskGroup() as group:\n    group.create_task(x())",
            "import asyncio\ndef f(group: asyncio.TaskGroup):\n    group.create_task(x())",
        ),
    ),
    Ban(
        "print (commands speak through tellwire.terminal, processes through logs)",
        _printing,
        {},
        ("print('x')", "x = print"),
        ("console.print('x')",),
    ),
    Ban(
        "log texts that are put together first",
        _built_log_texts,
        {},
        ("logger.info(f'{x}')", "logger.log(1, 'a' + x)", "log.error('%s' % x)"),
        ("logger.info('%s', x)", "math.log(x + 1)"),
    ),
)
every_ban = pytest.mark.parametrize("ban", BANS, ids=[ban.name for ban in BANS])


@pytest.fixture(scope="module")
def places(sources) -> dict[str, dict[str, list[int]]]:
    """Where each ban finds something: lines by path."""
    return {
        ban.name: {
            source.path: [node.lineno for node in ban.find(source.tree)] for source in sources
        }
        for ban in BANS
    }


@every_ban
def test_it_happens_in_the_named_places_alone(ban, places) -> None:
    found = [
        f"{path}:{line}"
        for path, lines in places[ban.name].items()
        for line in lines
        if path not in ban.allowed
    ]

    assert found == [], f"{ban.name}: only in {', '.join(ban.allowed) or 'no place at all'}"


@every_ban
def test_every_named_place_still_needs_its_exception(ban, places) -> None:
    needing = {path for path, lines in places[ban.name].items() if lines}

    assert set(ban.allowed) - needing == set()


@every_ban
def test_the_rule_finds_what_it_bans_and_nothing_else(ban) -> None:
    assert [example for example in ban.examples if not any(ban.find(ast.parse(example)))] == []
    assert [example for example in ban.harmless if any(ban.find(ast.parse(example)))] == []


def test_the_tenant_setting_stands_in_no_file_that_is_not_python(root) -> None:
    files = [f for f in (root / "src").rglob("*") if f.suffix in {".sql", ".lua", ".toml", ".mako"}]
    assert files

    assert [f.name for f in files if "app.jwt_tenant" in f.read_text("utf-8")] == []
