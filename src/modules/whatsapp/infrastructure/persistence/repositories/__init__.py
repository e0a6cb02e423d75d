"""Repositories in PostgreSQL and the rate limiter in Redis; see README.md beside this file."""

from whatsapp.infrastructure.persistence.repositories.account_repository import (
    SQLAlchemyAccountRepository,
)
from whatsapp.infrastructure.persistence.repositories.channel_drivers import RedisChannelDrivers
from whatsapp.infrastructure.persistence.repositories.channel_repository import (
    SQLAlchemyChannelRepository,
)
from whatsapp.infrastructure.persistence.repositories.conversation_repository import (
    SQLAlchemyConversationRepository,
)
from whatsapp.infrastructure.persistence.repositories.conversation_views import (
    SQLAlchemyConversationViews,
)
from whatsapp.infrastructure.persistence.repositories.delivery_log import SQLAlchemyDeliveryLog
from whatsapp.infrastructure.persistence.repositories.delivery_queue import (
    SQLAlchemyDeliveryQueue,
)
from whatsapp.infrastructure.persistence.repositories.endpoint_repository import (
    SQLAlchemyEndpointRepository,
)
from whatsapp.infrastructure.persistence.repositories.event_log import SQLAlchemyEventLog
from whatsapp.infrastructure.persistence.repositories.media_queue import SQLAlchemyMediaQueue
from whatsapp.infrastructure.persistence.repositories.media_repository import (
    SQLAlchemyMediaRepository,
)
from whatsapp.infrastructure.persistence.repositories.message_repository import (
    SQLAlchemyMessageRepository,
)
from whatsapp.infrastructure.persistence.repositories.message_views import SQLAlchemyMessageViews
from whatsapp.infrastructure.persistence.repositories.meta_app_repository import (
    SQLAlchemyMetaAppRepository,
)
from whatsapp.infrastructure.persistence.repositories.overdue import SQLAlchemyOverdue
from whatsapp.infrastructure.persistence.repositories.rate_limiter import RedisRateLimiter
from whatsapp.infrastructure.persistence.repositories.send_queue import SQLAlchemySendQueue
from whatsapp.infrastructure.persistence.repositories.webhook_inbox import SQLAlchemyWebhookInbox

__all__ = [
    "RedisChannelDrivers",
    "RedisRateLimiter",
    "SQLAlchemyAccountRepository",
    "SQLAlchemyChannelRepository",
    "SQLAlchemyConversationRepository",
    "SQLAlchemyConversationViews",
    "SQLAlchemyDeliveryLog",
    "SQLAlchemyDeliveryQueue",
    "SQLAlchemyEndpointRepository",
    "SQLAlchemyEventLog",
    "SQLAlchemyMediaQueue",
    "SQLAlchemyMediaRepository",
    "SQLAlchemyMessageRepository",
    "SQLAlchemyMessageViews",
    "SQLAlchemyMetaAppRepository",
    "SQLAlchemyOverdue",
    "SQLAlchemySendQueue",
    "SQLAlchemyWebhookInbox",
]
