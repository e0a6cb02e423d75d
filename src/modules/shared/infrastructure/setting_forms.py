"""The forms of settings that have one: URLs of servers, and lists of networks."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Annotated, Final

from pydantic import AfterValidator, SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_DRIVER: Final = "postgresql+asyncpg"
_POSTGRES_SCHEMES: Final = {"postgres", "postgresql", _DRIVER}
_REDIS_SCHEMES: Final = (
    *("redis://", "rediss://", "unix://"),
    *("redis+cluster://", "rediss+cluster://"),
)
_TLS: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS_PARAMETERS: Final = ("ssl", "sslmode")
_PARAMETERS: Final = (
    *("host", "port", *_TLS_PARAMETERS, "passfile"),
    *("target_session_attrs", "prepared_statement_cache_size"),
)
"""What asyncpg and SQLAlchemy take from a URL; anything else would fail later, in a worker."""


def _postgres_url(value: SecretStr) -> SecretStr:
    """Any of the usual spellings, as SQLAlchemy's URL for asyncpg; the text is in no error."""
    try:
        url = make_url(value.get_secret_value())
    except (ArgumentError, ValueError):  # What a port is not may be a piece of the password.
        url = URL.create("unreadable")
    if url.drivername not in _POSTGRES_SCHEMES:
        raise ValueError(
            "not a URL like postgresql://tellwire_app:...@host/tellwire; :, / and @ in a password "
            "are written %3A, %2F and %40"
        )
    url = _with_parameters_of_the_driver(url)
    return SecretStr(url.set(drivername=_DRIVER).render_as_string(hide_password=False))


def _with_parameters_of_the_driver(url: URL) -> URL:
    """As asyncpg calls them: `ssl` is what PostgreSQL's own programs call `sslmode`."""
    if set(url.query) - set(_PARAMETERS):
        raise ValueError(f"behind the ? there may be {', '.join(_PARAMETERS)}")
    given = [url.query[name] for name in _TLS_PARAMETERS if name in url.query]
    if not given:
        return url
    if len(given) > 1 or given[0] not in _TLS:
        raise ValueError(f"sslmode is one of {', '.join(_TLS)}")
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": given[0]})


def _redis_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(_REDIS_SCHEMES):
        raise ValueError(f"must begin with one of {', '.join(_REDIS_SCHEMES)}")
    return value


def _networks(*besides: str) -> Callable[[str], str]:
    """A validator of networks separated by commas, each one of `besides` or with its own bits."""

    def checked(value: str) -> str:
        for one in filter(None, map(str.strip, value.split(","))):
            try:
                _ = one in besides or ip_network(one)
            except ValueError:
                raise ValueError("networks are written like 10.0.0.0/8, with commas") from None
        return value

    return checked


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
Networks = Annotated[str, AfterValidator(_networks())]
Proxies = Annotated[str, AfterValidator(_networks("*"))]
