"""The repositories under the names that embedders import."""

from whatsapp.infrastructure.persistence.repositories.rate_limiter import RedisRateLimiter

__all__ = ["RedisRateLimiter"]
