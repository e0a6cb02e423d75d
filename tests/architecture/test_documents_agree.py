"""Documents say what the code does: options, routes, error codes, metrics and tables in them."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from prometheus_client import CollectorRegistry
from typer.core import TyperGroup

from shared.infrastructure.database import Base
from shared.infrastructure.observability.metrics import HttpMetrics
from shared.infrastructure.settings import load_settings
from tellwire.api import create_api
from tellwire.cli.commands import app
from tellwire.database import load_models
from tellwire.error_reference import error_classes, import_everything
from tellwire.worker_metrics import WorkerMetrics
from whatsapp.entrypoints.http.metrics import ApiMetrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted(
    [
        *(path for path in DOCS.rglob("*.md") if path.name != "reference.md"),
        *ROOT.glob("*.md"),
        *(ROOT / "src").rglob("*.md"),
    ]
)
every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(d.relative_to(ROOT)) for d in DOCUMENTS]
)
COMMAND = re.compile(r"(?:`|^\$ )tellwire ([a-z][^`\n]*)", re.MULTILINE)
ROUTE = re.compile(
    r"(?:`|-X )(GET|POST|PUT|PATCH|DELETE) (?:\$TELLWIRE)?(/(?:v1|webhooks)/[^`\s?]*)"
)
REFUSAL = re.compile(r"\b([45]\d\d) `([a-z]+(?:_[a-z]+)+)`")
METRIC = re.compile(r"`(tellwire_[a-z_]+_(?:total|seconds|entries|bytes|in_flight))`")
FOREIGN = re.compile(r"(?<![\w.:/\-$}\])])/(?:home|root|Users|work|mnt|srv)/\w")


def _text(document: Path) -> str:
    return document.read_text("utf-8")


def _unknown_options(line: str) -> list[str]:
    """The options in a command line that the command does not have."""
    command, options = typer.main.get_command(app), []
    for word in shlex.split(re.sub(r"<[^>]*>|\.\.\.", "x", line), comments=True):
        if word.startswith("--"):
            options.append(word.partition("=")[0])
        elif isinstance(command, TyperGroup):
            command = command.get_command(typer.Context(command), word) or command
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return [f"{line}: {name}" for name in options if name not in known | {"--help"}]


@every_document
def test_options_of_commands_exist(document) -> None:
    assert [
        bad for line in COMMAND.findall(_text(document)) for bad in _unknown_options(line)
    ] == []


@pytest.fixture(scope="module")
def routes() -> set[tuple[str, str]]:
    """Method and path of all that the API documents, whatever its parameters are called."""
    paths = create_api(load_settings(_env_file=None)).openapi()["paths"]
    return {
        (method.upper(), re.sub(r"{[^}]*}", "{}", path))
        for path, operations in paths.items()
        for method in operations
    }


@every_document
def test_routes_exist(document, routes) -> None:
    shown = {
        (method, re.sub(r"{[^}]*}|<[^>]*>|\$\w+", "{}", path))
        for method, path in ROUTE.findall(_text(document))
    }

    assert shown - routes == set()


@every_document
def test_codes_are_answered_with_the_status_beside_them(document) -> None:
    import_everything()
    statuses = {error.code: str(error.status) for error in error_classes()}

    shown = REFUSAL.findall(_text(document))
    assert [(status, code) for status, code in shown if statuses.get(code) != status] == []


def test_the_table_of_statuses_has_every_status_that_a_code_has() -> None:
    import_everything()
    rows = re.findall(r"^\| ((?:[45]\d\d(?:, )?)+) \|", _text(DOCS / "http-api.md"), re.MULTILINE)
    listed = {int(status) for row in rows for status in row.split(", ")}

    assert {error.status for error in error_classes()} - listed == set()


def test_every_metric_is_explained_and_none_that_does_not_exist() -> None:
    registry = CollectorRegistry()
    for kind in (HttpMetrics, ApiMetrics, WorkerMetrics):
        kind(registry)
    counted = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in registry.collect()
    }
    assert len(counted) > 10

    shown = set(METRIC.findall(_text(DOCS / "operations.md")))

    assert shown == counted


def test_every_table_is_explained_and_none_that_does_not_exist() -> None:
    load_models()
    _, _, rest = _text(DOCS / "architecture.md").partition("\n## Tables\n")
    section, _, _ = rest.partition("\n## ")

    shown = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))

    assert shown == set(Base.metadata.tables)


def test_the_changelog_names_each_kind_of_change_once() -> None:
    for release in _text(ROOT / "CHANGELOG.md").split("\n## ")[1:]:
        kinds = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert kinds == [k for k in ("Added", "Changed", "Fixed", "Security") if k in kinds]
        entries = re.findall(r"^- (.+)$", release, re.MULTILINE)
        assert len(entries) == len(set(entries))


def test_nothing_names_a_path_of_somebodys_machine() -> None:
    found = []
    for suffix in ("py", "md", "toml", "txt", "in", "sql", "lua", "mako", "svg", "json"):
        for folder in ("src", "tests", "docs", "migrations", "benchmarks", "requirements", "."):
            files = (ROOT / folder).glob(f"{'**/' if folder != '.' else ''}*.{suffix}")
            found += [str(f.relative_to(ROOT)) for f in files if FOREIGN.search(_text(f))]

    assert found == []


def test_the_rules_find_what_is_wrong() -> None:
    assert _unknown_options("channel change <channel id> --rate 250 --colour red") == [
        "channel change <channel id> --rate 250 --colour red: --colour"
    ]
    assert _unknown_options("app add <Meta's app id>") == []
    assert ROUTE.findall("`POST /v1/messages/{id}/cancel`") == [
        ("POST", "/v1/messages/{id}/cancel")
    ]
    assert REFUSAL.findall("refused with 409 `channel_not_active`") == [
        ("409", "channel_not_active")
    ]
    assert FOREIGN.search("see /home" + "/me/notes")
    assert not FOREIGN.search("https://example.com/home" + "/me")
