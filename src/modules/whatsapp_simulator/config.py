"""What the simulator simulates: numbers, secrets, delays. Immutable; JSON or environment in."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import orjson
from pydantic import ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError

from shared.kernel.errors import Misconfigured
from shared.kernel.secret import Secret

ENVIRONMENT_PREFIX = "TELLWIRE_SIMULATOR_"
_STRICT: Final = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str) and value:
        return Secret(value)
    raise ValueError("a non-empty text is needed")


SecretText = Annotated[Secret, PlainValidator(_secret)]
Seconds = Annotated[timedelta, Field(ge=timedelta())]
"""A duration that is not negative; in JSON a number of seconds under `<name>_seconds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedNumber:
    """One business phone number that exists from the start."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    phone_number_id: Annotated[str, Field(pattern=r"^[0-9]{1,32}$")]
    display_phone_number: str
    waba_id: Annotated[str, Field(pattern=r"^[0-9]{1,32}$")]
    access_token: SecretText
    messages_per_second: Annotated[int, Field(ge=1)] = 80
    verified_name: str = "Simulated business"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDelays:
    """How long after acceptance each status happens, give or take `jitter` (a share of it)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    sent: Seconds = timedelta(milliseconds=100)
    delivered: Seconds = timedelta(milliseconds=400)
    read: Seconds = timedelta(milliseconds=1500)
    played: Seconds = timedelta(milliseconds=2500)
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    late: Seconds = timedelta(seconds=30)
    """Added to every status of a message whose statuses are to be late."""
    hold: Seconds = timedelta(seconds=5)
    """How long a template is held for quality assessment when that is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """How updates travel: size of a POST, how many at once, how often repeated."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    batch: Annotated[int, Field(ge=1, le=1000)] = 100
    """Most updates in one POST; Meta: 1000."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    queue: Annotated[int, Field(ge=1)] = 1_000_000
    """Most updates waiting; what comes on top is dropped and counted."""
    linger: Seconds = timedelta(milliseconds=20)
    """How long updates gather before they leave together; also the precision of all delays."""
    timeout: Seconds = timedelta(seconds=10)
    retry_delays: tuple[Seconds, ...] = (
        timedelta(),
        timedelta(milliseconds=500),
        timedelta(seconds=1),
        timedelta(seconds=2),
        timedelta(seconds=5),
        timedelta(seconds=15),
        timedelta(seconds=60),
    )
    """Waits after each failure; the last one repeats until `give_up_after`."""
    give_up_after: Seconds = timedelta(days=7)
    version: Annotated[str, Field(pattern=r"^v[0-9]+\.[0-9]+$")] = "v23.0"
    """Version of the subscription: below v24.0 statuses carry `conversation`."""
    status_contacts: bool = True
    """Whether status webhooks name their recipients under `contacts`, as they may since 2026."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """Everything that a simulator is started with."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    app_secret: SecretText
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8090
    """0 takes any free port."""
    app_id: str = "100000000000001"
    webhook_url: str | None = None
    verify_token: SecretText = field(default_factory=lambda: Secret("tellwire"))
    numbers: tuple[SimulatedNumber, ...] = ()
    open_numbers: bool = False
    """Any number id with any bearer token is accepted; the number is made on first use."""
    open_messages_per_second: Annotated[int, Field(ge=1)] = 80
    windows: Literal["off", "sync", "async"] = "off"
    """Whether free-form messages outside the 24-hour window fail with 131047, and how."""
    pair_limit: bool = True
    inbound_counts: bool = False
    """Whether inbound messages use up the number's messages per second, as Meta says they do."""
    check_media: bool = True
    """Whether an unknown media id is refused."""
    throttle_http_status: Literal[400, 429] = 400
    latency: Seconds = timedelta()
    """How long after acceptance a normal answer leaves."""
    statuses: StatusDelays = field(default_factory=StatusDelays)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    log_entries: Annotated[int, Field(ge=1024)] = 2_000_000
    """Requests remembered in memory, about 300 bytes each."""
    log_path: Path | None = None
    """Requests are also appended here, one JSON object in a line."""
    seed: int | None = None
    """Makes jitter and probabilities repeat; ids differ all the same."""

    @classmethod
    def from_json(cls, source: Path | str | Mapping[str, Any]) -> "SimulatorConfig":
        """Read a JSON file or an object; raises `Misconfigured` without showing any value."""
        return _read(source if isinstance(source, Mapping) else _load(Path(source)))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "SimulatorConfig":
        """`TELLWIRE_SIMULATOR_CONFIG` names a JSON file; other variables override its top level."""
        given = {
            key.removeprefix(ENVIRONMENT_PREFIX).lower(): value
            for key, value in environ.items()
            if key.startswith(ENVIRONMENT_PREFIX)
        }
        path = given.pop("config", None)
        return _read(
            {**(_load(Path(path)) if path else {}), **given}, called=_variable if not path else str
        )


def _variable(name: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"


def _read(raw: Mapping[str, Any], *, called: Callable[[str], str] = str) -> SimulatorConfig:
    """The configuration; an error calls its members as whoever gave them does."""
    try:
        return _adapter().validate_python(_without_units(raw))
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
    where = "; ".join(f"{_place(fault['loc'], called)}: {fault['msg']}" for fault in faults)
    raise Misconfigured(f"simulator configuration: {where}")


def _place(path: Sequence[int | str], called: Callable[[str], str]) -> str:
    first, *rest = path or ("",)
    return ".".join([called(str(first)), *map(str, rest)])


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded = orjson.loads(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"simulator configuration: {path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Misconfigured(f"simulator configuration: {path}: no JSON at {where}") from None
    if not isinstance(loaded, dict):
        raise Misconfigured("simulator configuration: a JSON object is needed")
    return loaded


def _without_units(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k).removesuffix("_seconds"): _without_units(v) for k, v in value.items()}
    return [_without_units(v) for v in value] if isinstance(value, list) else value


def _adapter() -> TypeAdapter[SimulatorConfig]:
    return TypeAdapter(SimulatorConfig)
