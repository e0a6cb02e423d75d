"""What a worker needs to deliver events, and to forget them when they are old."""

from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database import create_session_factory
from shared.infrastructure.settings import DatabaseRole, Settings
from tellwire.resources import open_database
from whatsapp.application.deliver_events import DeliverEvents
from whatsapp.application.forget_events import ForgetEvents
from whatsapp.domain.events import AddressPolicy
from whatsapp.entrypoints.workers.event_worker import EventWorker
from whatsapp.entrypoints.workers.loop import Loop, Seldom
from whatsapp.infrastructure.event_delivery.guarded_session import guarded_session
from whatsapp.infrastructure.event_delivery.sender import HttpEventSender
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyDeliveryQueue,
    SQLAlchemyOverdue,
)
from whatsapp.infrastructure.persistence.work import work_in

CONNECTIONS: Final = 3
"""Of their own: however many events there are, messages are sent on other connections."""
MARGIN: Final = timedelta(seconds=5)
FORGET_SECONDS: Final = 600.0


async def open_events(
    settings: Settings, stack: AsyncExitStack, *, dispatch: AsyncEngine, process: AsyncEngine
) -> tuple[EventWorker, Loop]:
    """The event worker, and the loop that forgets; both run until they are told to stop."""
    few = settings.model_copy(update={"database_pool_size": CONNECTIONS})
    app = await stack.enter_async_context(open_database(few, DatabaseRole.APP, plans_once=True))
    policy = AddressPolicy.parse(settings.webhook_allowed_networks)
    session = await stack.enter_async_context(guarded_session(policy))
    begin = work_in(create_session_factory(app))
    queue = SQLAlchemyDeliveryQueue(dispatch)
    deliver = DeliverEvents(
        begin=begin,
        queue=queue,
        sender=HttpEventSender(session, within=settings.webhook_timeout),
        lease=settings.webhook_timeout * 2 + MARGIN,
    )
    forget = ForgetEvents(
        begin=begin, overdue=SQLAlchemyOverdue(process).of_events, keep=settings.event_retention
    )
    seldom = Seldom(work=forget, every_seconds=FORGET_SECONDS)
    loop = Loop(name="forget events", work=seldom, pause_seconds=1.0)
    return EventWorker(queue=queue, deliver=deliver), loop
