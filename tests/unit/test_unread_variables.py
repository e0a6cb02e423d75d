"""A misspelt setting is named with the one that was meant; nothing else is complained of."""

import os
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared.infrastructure.settings import Settings
from tellwire.cli import main
from tellwire.cli.commands import app
from tellwire.cli.unread import unread

CHANGES_NOTHING = "is no setting and changes nothing; do you mean"
SOURCES = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("TELLWIRE_DATABSE_URL", "TELLWIRE_DATABASE_URL"),
        ("tellwire_api_prot", "TELLWIRE_API_PORT"),
        ("TELLWIRE_WORKER_CONCURENCY", "TELLWIRE_WORKER_CONCURRENCY"),
        ("TELLWIRE_LEASE_SECOND", "TELLWIRE_LEASE_SECONDS"),
        ("TELLWIRE_KAFKA", ""),
    ],
)
def test_what_is_no_setting_is_named_with_what_was_meant(written, meant):
    assert list(unread([written])) == [(written.upper(), meant)]


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "MY_TELLWIRE_API_PROT", "TELLWIRE_SIMULATOR_PORT", "tellwire_api_port"),
        # What Kubernetes sets in every container beside services of these names.
        *("TELLWIRE_SERVICE_HOST", "TELLWIRE_API_SERVICE_PORT", "TELLWIRE_SERVICE_PORT_HTTP"),
        *("TELLWIRE_PORT", "TELLWIRE_PORT_8000_TCP", "TELLWIRE_API_PORT_8000_TCP_ADDR"),
    ],
)
def test_what_others_set_is_not_complained_of(name):
    assert list(unread([name])) == []


def test_every_variable_that_the_code_reads_is_known():
    written = {
        name
        for file in SOURCES.rglob("*.py")
        for name in re.findall(r'"(TELLWIRE_[A-Z0-9_]*[A-Z0-9])"', file.read_text())
    }
    settings = {f"TELLWIRE_{name.upper()}" for name in Settings.model_fields}

    assert {"TELLWIRE_ACCESS_TOKEN", "TELLWIRE_API_PORT"} <= written
    assert list(unread(written | settings)) == []


@pytest.fixture
def misspelt(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("TELLWIRE_API_PROT=1\nOTHER=1\n")
    for name in [name for name in os.environ if name.startswith("TELLWIRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELLWIRE_DATABSE_URL", "postgresql://canary")
    monkeypatch.setenv("TELLWIRE_ENCRYPTION_KEYS", "1:canary")


@pytest.mark.usefixtures("misspelt")
def test_a_command_says_it_once_for_each_and_goes_on(caplog):
    said = CliRunner().invoke(app, ["keys", "list"])

    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"TELLWIRE_API_PROT {CHANGES_NOTHING} TELLWIRE_API_PORT?",
        f"TELLWIRE_DATABSE_URL {CHANGES_NOTHING} TELLWIRE_DATABASE_URL?",
    ]
    assert "canary" not in caplog.text
    assert type(said.exception).__name__ == "WrongKeyLength"


@pytest.mark.usefixtures("misspelt")
def test_what_is_missing_because_it_is_misspelt_is_named_beside_the_error(caplog, monkeypatch):
    monkeypatch.setenv("TELLWIRE_REDIS_URL", "redis://cache")
    monkeypatch.setattr(sys, "argv", ["tellwire", "worker"])

    with pytest.raises(SystemExit) as ended:
        main.main()

    assert ended.value.code == 78
    assert "do you mean TELLWIRE_DATABASE_URL?" in caplog.text
