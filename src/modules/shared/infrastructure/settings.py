"""Tellwire's settings: environment variables with the prefix TELLWIRE_, and a `.env` file."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url

from shared.infrastructure.setting_forms import Networks, PostgresUrl, Proxies, RedisUrl
from shared.kernel.errors import Misconfigured

PREFIX: Final = "TELLWIRE_"
ENV_FILE: Final = ".env"
MOST_SECONDS: Final = 86_400.0
MOST_DAYS: Final = 36_500.0
"""Bounds that no sensible setting reaches; without them `inf` would fail later, in a worker."""


class DatabaseRole(StrEnum):
    """The roles of `roles.sql`, each with rights of its own."""

    OWNER = "tellwire_owner"
    APP = "tellwire_app"
    DISPATCH = "tellwire_dispatch"
    INTAKE = "tellwire_intake"
    PROCESS = "tellwire_process"


GraphVersion = Annotated[str, StringConstraints(pattern=r"^v\d+\.\d+$")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/[^\s]*)?$")]
PositiveSeconds = Annotated[float, Field(gt=0, le=MOST_SECONDS)]


class Settings(BaseSettings):
    """What an installation may set; without a database URL Tellwire starts servers of its own.

    Database and Redis URLs may hold passwords, so their values appear in no repr and no error.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: PostgresUrl | None = Field(
        None,
        description="PostgreSQL as the role tellwire_app; without it PostgreSQL and Redis are "
        "started from their Python packages, with their data in the data directory.",
    )
    database_owner_url: PostgresUrl | None = Field(
        None,
        description="PostgreSQL as tellwire_owner, for migrations alone; "
        "default: the database URL with that user name.",
    )
    database_dispatch_url: PostgresUrl | None = Field(
        None,
        description="PostgreSQL as tellwire_dispatch, for the send queue; "
        "default: the database URL with that user name.",
    )
    database_intake_url: PostgresUrl | None = Field(
        None,
        description="PostgreSQL as tellwire_intake, for webhooks that come in; "
        "default: the database URL with that user name.",
    )
    database_process_url: PostgresUrl | None = Field(
        None,
        description="PostgreSQL as tellwire_process, for working through webhooks; "
        "default: the database URL with that user name.",
    )
    database_pool_size: int = Field(
        8, ge=1, le=200, description="Connections that each process has at most per database role."
    )
    database_pgbouncer: bool = Field(
        default=False,
        description="Whether PgBouncer in transaction mode stands before the database.",
    )
    redis_url: RedisUrl | None = Field(
        None,
        description="Redis 6.2 or later with maxmemory-policy noeviction; "
        "needed where a database URL is set.",
    )
    data_directory: Path = Field(
        Path(".tellwire"),
        description="Where embedded PostgreSQL and Redis and the key file lie.",
    )
    encryption_keys: SecretStr | None = Field(
        None,
        description="Keys for access tokens and secrets, <id>:<32 bytes in base64url>, separated "
        "by commas, the primary first.",
    )
    encryption_key_file: Path | None = Field(
        None,
        description="A file (mode 0600) with one such key a line, instead of the keys themselves; "
        "with embedded servers it is made in the data directory.",
    )
    api_host: str = Field("127.0.0.1", description="The address that the HTTP API listens on.")
    api_port: int = Field(8000, ge=1, le=65535, description="The port of the HTTP API.")
    trusted_proxies: Proxies = Field(
        "127.0.0.1",
        description="Addresses or networks of proxies before the API, separated by commas, whose "
        "X-Forwarded-Proto is believed; `*` believes everybody.",
    )
    graph_base_url: HttpUrl = Field(
        "https://graph.facebook.com", description="Where Meta's Graph API is, or a simulator of it."
    )
    graph_version: GraphVersion = Field("v26.0", description="The version of Meta's Graph API.")
    metrics_token: SecretStr | None = Field(
        None,
        description="What `/metrics` of the API asks for as a bearer token; without it everybody "
        "who reaches the API may read it.",
    )
    worker_metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="A port on the API's host where a worker shows its metrics; the second worker "
        "of `tellwire serve` takes the next one, and so on. None by default.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe log lines that are written."
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Log lines for people (console) or for machines (json)."
    )
    media_directory: Path | None = Field(
        None,
        description="Where files lie that come with messages; every process needs to reach it. "
        "Default: media in the data directory.",
    )
    media_s3_bucket: str | None = Field(
        None,
        description="A bucket of an S3-compatible store for files instead of a directory; needs "
        "the extra tellwire[s3].",
    )
    media_s3_endpoint: HttpUrl | None = Field(
        None, description="The address of the store; default: AWS's for the region."
    )
    media_s3_region: str | None = Field(None, description="The store's region.")
    media_s3_prefix: str | None = Field(
        None, description="What the names of all objects begin with."
    )
    media_s3_access_key_id: str | None = Field(
        None, description="The store's access key; default: what AWS's own environment says."
    )
    media_s3_secret_access_key: SecretStr | None = Field(
        None, description="The secret of that access key."
    )
    media_max_bytes: int = Field(
        100 * 1024 * 1024, ge=1, description="The largest file that is fetched for a tenant."
    )
    media_verify_hash: bool = Field(
        default=True,
        description="Whether a fetched file must have the SHA-256 that Meta claims.",
    )
    media_retention_days: float | None = Field(
        None,
        gt=0,
        le=MOST_DAYS,
        description="How long files are kept after they came in or were last used; default: for "
        "good.",
    )
    media_concurrency: int = Field(
        8, ge=1, le=200, description="Files that one worker moves at once."
    )
    media_lease_seconds: float = Field(
        180.0,
        ge=1,
        le=MOST_SECONDS,
        description="How long a worker's claim on a file lasts. Moving it may take two thirds.",
    )
    worker_concurrency: int = Field(
        500,
        ge=1,
        le=10_000,
        description="Requests to Meta that one worker has in flight at once for one channel; for "
        "all channels together it has four times as many.",
    )
    shutdown_grace_seconds: PositiveSeconds = Field(
        20.0, description="How long processes may finish what they began before they are killed."
    )
    lease_seconds: float = Field(
        60.0,
        ge=1,
        le=MOST_SECONDS,
        description="How long a worker's claim lasts: what a worker held that died is taken over "
        "after this time. A request to Meta may take half of it.",
    )
    unknown_deadline_seconds: PositiveSeconds = Field(
        120.0,
        description="How long a message whose fate is unknown waits for an echo from Meta.",
    )

    webhook_allowed_networks: Networks = Field(
        "",
        description="Networks besides public addresses that events may be delivered to, like "
        "10.0.0.0/8, separated by commas; with any of them endpoints may do without TLS.",
    )
    webhook_timeout_seconds: float = Field(
        15.0, gt=0, le=30, description="How long a webhook endpoint may take to answer."
    )
    event_retention_days: float = Field(
        14.0,
        ge=4,
        le=MOST_DAYS,
        description="How long events and the log of their deliveries are kept; deliveries are "
        "tried for three days.",
    )

    @model_validator(mode="after")
    def _both_servers_or_none(self) -> Self:
        """An embedded Redis beside a shared database would let each machine send at full rate."""
        if (self.database_url is None) != (self.redis_url is None):
            missing = "DATABASE_URL" if self.database_url is None else "REDIS_URL"
            raise ValueError(f"set {PREFIX}{missing} too, or leave out both")
        if self.encryption_keys is not None and self.encryption_key_file is not None:
            raise ValueError(
                f"set {PREFIX}ENCRYPTION_KEYS or {PREFIX}ENCRYPTION_KEY_FILE, not both"
            )
        if self.media_directory is not None and self.media_s3_bucket is not None:
            raise ValueError(f"set {PREFIX}MEDIA_DIRECTORY or {PREFIX}MEDIA_S3_BUCKET, not both")
        if (self.media_s3_access_key_id is None) != (self.media_s3_secret_access_key is None):
            raise ValueError(
                f"set {PREFIX}MEDIA_S3_ACCESS_KEY_ID and {PREFIX}MEDIA_S3_SECRET_ACCESS_KEY, "
                "or neither"
            )
        return self

    @property
    def media_lease(self) -> timedelta:
        """How long a worker's claim on a file lasts."""
        return timedelta(seconds=self.media_lease_seconds)

    @property
    def media_retention(self) -> timedelta | None:
        """How long files are kept; None for good."""
        days = self.media_retention_days
        return None if days is None else timedelta(days=days)

    @property
    def is_embedded(self) -> bool:
        """Whether Tellwire has to start PostgreSQL and Redis itself."""
        return self.database_url is None

    @property
    def shutdown_grace(self) -> timedelta:
        """How long processes may finish what they began."""
        return timedelta(seconds=self.shutdown_grace_seconds)

    @property
    def lease(self) -> timedelta:
        """How long a worker's claim lasts."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def unknown_deadline(self) -> timedelta:
        """How long a message whose fate is unknown waits for an echo."""
        return timedelta(seconds=self.unknown_deadline_seconds)

    @property
    def webhook_timeout(self) -> timedelta:
        """How long a webhook endpoint may take to answer."""
        return timedelta(seconds=self.webhook_timeout_seconds)

    @property
    def event_retention(self) -> timedelta:
        """How long events are kept."""
        return timedelta(days=self.event_retention_days)

    def database_url_of(self, role: DatabaseRole) -> str:
        """The URL that connects as `role`, password and all; pass it on at once."""
        if self.database_url is None:
            raise Misconfigured(
                f"{PREFIX}DATABASE_URL is not set and no embedded server was started"
            )
        own = {
            DatabaseRole.APP: self.database_url,
            DatabaseRole.OWNER: self.database_owner_url,
            DatabaseRole.DISPATCH: self.database_dispatch_url,
            DatabaseRole.INTAKE: self.database_intake_url,
            DatabaseRole.PROCESS: self.database_process_url,
        }[role]
        if own is not None:
            return own.get_secret_value()
        url = make_url(self.database_url.get_secret_value()).set(username=role.value)
        return url.render_as_string(hide_password=False)

    def to_environment(self) -> Mapping[str, str]:
        """The variables that give a child process these very settings, secrets included."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            f"{PREFIX}{name.upper()}": _to_text(value)
            for name, value in values.items()
            if value is not None
        }


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`; raises Misconfigured with the variables that are wrong.

    The error names variables and rules, never values.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = [_problem(found["loc"], found["msg"]) for found in error.errors()]
    except UnicodeDecodeError:
        problems = [f"{ENV_FILE} is not text in UTF-8"]
    except OSError as error:
        problems = [f"{ENV_FILE} cannot be read: {error.strerror}"]
    raise Misconfigured("; ".join(problems))


def _problem(place: tuple[int | str, ...], message: str) -> str:
    name = f"{PREFIX}{str(place[0]).upper()}: " if place else ""
    return name + message.removeprefix("Value error, ")


def _to_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value.absolute()) if isinstance(value, Path) else str(value)
