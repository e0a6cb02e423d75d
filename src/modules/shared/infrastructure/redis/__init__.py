"""Connections to Redis and what is asserted of them."""

from shared.infrastructure.redis.connection import RedisClient, assert_noeviction, connect
from shared.infrastructure.redis.errors import RedisUnavailable, redis_errors_translated

__all__ = [
    "RedisClient",
    "RedisUnavailable",
    "assert_noeviction",
    "connect",
    "redis_errors_translated",
]
