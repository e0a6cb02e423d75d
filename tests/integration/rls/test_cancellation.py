"""A request that is cancelled at any of its awaits leaves a clean connection behind."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select, text

from shared.infrastructure.database import (
    RLSManager,
    SQLAlchemyUnitOfWork,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.database.rls import TENANT_SETTING
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import IdempotencyKey, MessageContent, PhoneNumber
from whatsapp.infrastructure.persistence.models import ChannelModel
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMessageRepository

pytestmark = pytest.mark.postgres

TENANT = text(f"SELECT current_setting('{TENANT_SETTING}', true)")


class CancelledAt:
    """Awaits a coroutine and cancels the running task while it waits for the `at`-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int) -> None:
        self.coroutine, self.at, self.waits = coroutine, at, 0

    def __await__(self) -> Generator[Any, Any, Any]:
        wait, answer = self.coroutine.send, None
        while True:
            try:
                future = wait(answer)
            except StopIteration as done:
                return done.value
            if self.waits == self.at:
                task = asyncio.current_task()
                asyncio.get_running_loop().call_soon(task.cancel)
            self.waits += 1
            try:
                answer, wait = (yield future), self.coroutine.send
            except BaseException as error:  # noqa: BLE001  # handed on to where it belongs
                answer, wait = error, self.coroutine.throw


async def cancel_everywhere(
    make: Callable[[], Coroutine[Any, Any, Any]], check: Callable[[], Coroutine[Any, Any, None]]
) -> int:
    """Run `make()` cancelled at its first, second, ... wait until it ends unharmed; count them."""
    at = 0
    while True:

        async def run(at: int = at) -> CancelledAt:
            request = CancelledAt(make(), at)
            await request
            return request

        task = asyncio.create_task(run())
        (result,) = await asyncio.gather(task, return_exceptions=True)
        await check()
        if not isinstance(result, asyncio.CancelledError):
            if isinstance(result, BaseException):
                raise result
            return at
        at += 1


@pytest.fixture
async def single(database):
    """An engine with one connection, which everybody gets in turn."""
    engine = create_engine(database.url("tellwire_app"), pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


@pytest.fixture
def message(ana):
    return OutboundMessage(
        tenant_id=ana.tenant_id,
        channel_id=ana.channel.id,
        recipient=PhoneNumber("+4915123456789"),
        content=MessageContent.text("Hello"),
        idempotency_key=IdempotencyKey("once"),
    )


@pytest.fixture
def next_user(single, bea):
    """Whoever gets the connection next: first nobody's, then the other tenant."""
    factory = create_session_factory(single)

    async def next_user() -> None:
        async with single.connect() as connection:
            assert not await connection.scalar(TENANT)
            assert (await connection.execute(text("SELECT 1 FROM whatsapp_channels"))).all() == []
        async with factory() as session, RLSManager(session) as rls:
            await rls.set_context(tenant_id=bea.tenant_id)
            rows = await session.execute(text("SELECT tenant_id FROM whatsapp_channels"))
            assert {row.tenant_id for row in rows} == {bea.tenant_id}
            await session.commit()

    return next_user


async def test_a_request_cancelled_at_any_await_leaves_a_clean_connection(
    single, ana, message, next_user
):
    factory = create_session_factory(single)

    async def request() -> None:
        async with SQLAlchemyUnitOfWork(factory) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            await uow.session.scalar(select(ChannelModel.name))
            await SQLAlchemyMessageRepository(uow.session).save_outbound(message)
            await uow.commit()
            await uow.session.scalar(select(ChannelModel.name))

    waits = await cancel_everywhere(request, next_user)

    assert waits > 5
    async with factory() as session, RLSManager(session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        for table in ("whatsapp_outbound_messages", "whatsapp_send_queue"):
            assert await session.scalar(text(f"SELECT count(*) FROM {table}")) == 1  # noqa: S608  # ours


async def test_a_request_that_fails_and_is_cancelled_while_it_cleans_up_leaves_it_clean(
    single, ana, next_user
):
    factory = create_session_factory(single)

    async def request() -> None:
        with suppress(ZeroDivisionError):
            async with SQLAlchemyUnitOfWork(factory) as uow, RLSManager(uow.session) as rls:
                await rls.set_context(tenant_id=ana.tenant_id)
                await uow.session.scalar(select(ChannelModel.name))
                uow.session.info["count"] = 1 // 0

    assert await cancel_everywhere(request, next_user) > 2


async def test_a_session_kept_by_its_owner_is_clean_after_a_cancelled_block(single, ana, next_user):
    """Somebody's own session, which is not closed with the block."""
    factory = create_session_factory(single)

    async def request() -> None:
        async with factory() as session:
            try:
                async with RLSManager(session) as rls:
                    await rls.set_context(tenant_id=ana.tenant_id)
                    await session.scalar(select(ChannelModel.name))
            finally:
                await session.rollback()
                rows = await session.execute(text("SELECT 1 FROM whatsapp_channels"))
                assert rows.all() == []

    assert await cancel_everywhere(request, next_user) > 2


async def test_a_stream_cancelled_anywhere_leaves_a_clean_connection(single, ana, next_user):
    factory = create_session_factory(single)

    async def request() -> None:
        async with factory() as session, RLSManager(session) as rls:
            await rls.set_context(tenant_id=ana.tenant_id)
            async for _ in await session.stream(select(ChannelModel.name)):
                pass

    assert await cancel_everywhere(request, next_user) > 2
