"""Settings come from the environment, refuse nonsense by name, and never show a secret."""

import json
import os

import pytest

from shared.infrastructure.settings import DatabaseRole, Settings, load_settings
from shared.kernel.errors import Misconfigured

URL = "postgresql://tellwire_app:canary-password@db:5433/tellwire?ssl=require"
REDIS = "redis://:canary-password@cache/0"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """No variable and no .env of the machine reaches these tests."""
    for name in [name for name in os.environ if name.startswith("TELLWIRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"TELLWIRE_{name}", value)

    return put


def test_without_any_setting_the_servers_are_embedded():
    settings = load_settings()
    assert settings.is_embedded
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 8000)


def test_every_field_says_what_it_is():
    assert all(field.description for field in Settings.model_fields.values())


def test_the_other_roles_urls_follow_from_the_apps(environment):
    environment(DATABASE_URL=URL, REDIS_URL=REDIS)
    settings = load_settings()
    assert settings.database_url_of(DatabaseRole.DISPATCH) == (
        "postgresql+asyncpg://tellwire_dispatch:canary-password@db:5433/tellwire?ssl=require"
    )
    assert not settings.is_embedded


def test_a_url_that_is_given_for_a_role_wins(environment):
    environment(DATABASE_URL=URL, REDIS_URL=REDIS, DATABASE_OWNER_URL="postgres://root@db/t")
    settings = load_settings()
    assert settings.database_url_of(DatabaseRole.OWNER) == "postgresql+asyncpg://root@db/t"


def test_what_postgresqls_own_programs_call_sslmode_is_understood(environment):
    environment(DATABASE_URL="postgres://u:p@db/t?sslmode=verify-full", REDIS_URL=REDIS)
    assert load_settings().database_url_of(DatabaseRole.INTAKE) == (
        "postgresql+asyncpg://tellwire_intake:p@db/t?ssl=verify-full"
    )


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+cluster", "rediss+cluster"])
def test_every_kind_of_redis_that_can_be_connected_to_can_be_set(environment, scheme):
    environment(DATABASE_URL=URL, REDIS_URL=f"{scheme}://cache.example")
    assert load_settings().redis_url.get_secret_value() == f"{scheme}://cache.example"


@pytest.mark.parametrize("proxies", ["*", "127.0.0.1", "10.0.0.0/8, ::1"])
def test_proxies_are_addresses_networks_or_everybody(environment, proxies):
    environment(TRUSTED_PROXIES=proxies)
    assert load_settings().trusted_proxies == proxies


@pytest.mark.parametrize("role", DatabaseRole)
def test_a_unix_socket_stays_the_way_to_the_server_for_each_role(environment, role):
    url = "postgresql+asyncpg://tellwire_app@/tellwire?host=/a%20b/c"
    environment(DATABASE_URL=url, REDIS_URL="unix:///a/redis.sock")
    assert (
        load_settings().database_url_of(role).startswith(f"postgresql+asyncpg://{role}@/tellwire")
    )


def test_asking_for_a_url_before_the_embedded_server_runs_says_so():
    with pytest.raises(Misconfigured, match="TELLWIRE_DATABASE_URL"):
        load_settings().database_url_of(DatabaseRole.APP)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://canary@db/t"),
        ("DATABASE_URL", "canary"),
        ("DATABASE_URL", "postgresql://u:pass@canary:word@db/t"),
        ("DATABASE_URL", "postgresql://u:pass@db:canary/t"),
        ("DATABASE_URL", "postgresql://u@db/t?sslmode=canary"),
        ("DATABASE_URL", "postgresql://u@db/t?ssl=require&sslmode=require"),
        ("DATABASE_URL", "postgresql://u@db/t?canary=1"),
        ("REDIS_URL", "http://canary"),
        ("WEBHOOK_ALLOWED_NETWORKS", "10.0.0.0/8,canary"),
        ("WEBHOOK_ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("WEBHOOK_ALLOWED_NETWORKS", "*"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "canary"),
        ("GRAPH_VERSION", "canary"),
        ("GRAPH_VERSION", "v25"),
        ("GRAPH_VERSION", "v25.0\n"),
        ("GRAPH_BASE_URL", "ftp://canary"),
        ("API_PORT", "70000"),
        ("API_PORT", "canary"),
        ("LOG_LEVEL", "canary"),
        ("SHUTDOWN_GRACE_SECONDS", "0"),
        ("SHUTDOWN_GRACE_SECONDS", "inf"),
        ("LEASE_SECONDS", "inf"),
        ("MEDIA_LEASE_SECONDS", "inf"),
        ("MEDIA_RETENTION_DAYS", "inf"),
        ("EVENT_RETENTION_DAYS", "1e300"),
        ("WORKER_CONCURRENCY", "0"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name_and_not_shown(environment, name, value):
    environment(**{name: value})
    with pytest.raises(Misconfigured) as caught:
        load_settings()
    assert f"TELLWIRE_{name}" in caught.value.detail
    assert "canary" not in caught.value.detail
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("variables", "asked_for"),
    [
        ({"DATABASE_URL": URL}, "TELLWIRE_REDIS_URL"),
        ({"REDIS_URL": REDIS}, "TELLWIRE_DATABASE_URL"),
    ],
)
def test_one_server_of_ones_own_needs_the_other(environment, variables, asked_for):
    environment(**variables)
    with pytest.raises(Misconfigured, match=asked_for):
        load_settings()


def test_keys_and_a_key_file_exclude_each_other(environment):
    environment(ENCRYPTION_KEYS="1:canary", ENCRYPTION_KEY_FILE="keys")
    with pytest.raises(Misconfigured, match="not both") as caught:
        load_settings()
    assert "canary" not in str(caught.value)


def test_no_representation_shows_a_secret(environment):
    environment(DATABASE_URL=URL, REDIS_URL=REDIS, ENCRYPTION_KEYS="1:canary-key")
    settings = load_settings()
    shown = [repr(settings), str(settings), settings.model_dump_json(), f"{settings.model_dump()}"]
    assert "canary" not in json.dumps(shown)


def test_a_child_process_gets_the_same_settings(environment):
    environment(DATABASE_URL=URL, REDIS_URL=REDIS, ENCRYPTION_KEYS="1:k", API_PORT="8001")
    settings = load_settings(database_pgbouncer=True)
    variables = settings.to_environment()
    environment(**{name.removeprefix("TELLWIRE_"): value for name, value in variables.items()})
    again = load_settings()
    assert again.model_copy(update={"data_directory": settings.data_directory}) == settings
    assert again.data_directory == settings.data_directory.absolute()


def test_a_dotenv_file_is_read_and_the_environment_wins(environment, tmp_path):
    (tmp_path / ".env").write_text(
        "TELLWIRE_API_PORT=9000\nTELLWIRE_LOG_LEVEL=debug\nOTHER=1\nTELLWIRE_SIMULATOR_PORT=1\n"
    )
    environment(LOG_LEVEL="error")
    settings = load_settings()
    assert (settings.api_port, settings.log_level) == (9000, "error")


@pytest.mark.parametrize("kind", ["not text", "not to be read"])
def test_a_dotenv_file_that_cannot_be_read_is_named(tmp_path, monkeypatch, kind):
    (tmp_path / ".env").write_bytes(b"TELLWIRE_API_PORT=\xff")
    if kind == "not to be read":  # Root may read anything.
        refused = PermissionError(13, "Permission denied")
        monkeypatch.setattr("dotenv.main.open", lambda *_, **__: _raise(refused), raising=False)
    with pytest.raises(Misconfigured, match=r"^\.env ") as caught:
        load_settings()
    assert caught.value.__context__ is None


def _raise(error):
    raise error


def test_an_empty_variable_counts_as_not_set(environment):
    environment(DATABASE_URL="", REDIS_URL="")
    assert load_settings().is_embedded
