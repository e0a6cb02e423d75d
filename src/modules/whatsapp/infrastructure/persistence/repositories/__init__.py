"""Repositories in PostgreSQL and the rate limiter in Redis; see README.md beside this file."""

from whatsapp.infrastructure.persistence.repositories.channel_repository import (
    SQLAlchemyChannelRepository,
)
from whatsapp.infrastructure.persistence.repositories.message_repository import (
    SQLAlchemyMessageRepository,
)
from whatsapp.infrastructure.persistence.repositories.rate_limiter import RedisRateLimiter
from whatsapp.infrastructure.persistence.repositories.send_queue import SQLAlchemySendQueue

__all__ = [
    "RedisRateLimiter",
    "SQLAlchemyChannelRepository",
    "SQLAlchemyMessageRepository",
    "SQLAlchemySendQueue",
]
