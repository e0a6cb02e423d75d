"""Redis's errors, translated once."""

from collections.abc import Generator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
)

from shared.kernel.errors import Misconfigured, Unavailable

_NOT_ALLOWED_IN_SCRIPT = "can't run this command"  # Redis 6.2 and 7 word it so inside a script.


class RedisUnavailable(Unavailable):
    """Redis does not answer, is loading, read-only or full; whoever needed it does nothing."""

    code = "redis_unavailable"
    title = "Redis does not answer; nothing was sent, try again"


def translate(error: Exception) -> Unavailable | Misconfigured:
    """Our error for one of Redis's; a refused login or command is a setting, the rest passes."""
    refused = (AuthenticationError, AuthorizationError, NoPermissionError)
    if isinstance(error, refused) or _NOT_ALLOWED_IN_SCRIPT in str(error):
        return Misconfigured("Redis refuses this user: check its password and its ACL")
    return RedisUnavailable(f"Redis failed with {type(error).__name__}")


REDIS_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)
"""All that a Redis client raises when Redis fails; a cluster's own root is not a RedisError."""


@contextmanager
def redis_errors_translated() -> Generator[None]:
    """Raise `RedisUnavailable` or `Misconfigured` in place of any error of Redis."""
    try:
        yield
    except REDIS_ERRORS as error:
        raise translate(error) from error
