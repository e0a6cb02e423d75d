"""Bodies as intake writes them down: durable, together, each once."""

import asyncio

import pytest
from sqlalchemy import text

from shared.infrastructure.database import RowSecurityViolation, create_engine
from shared.infrastructure.database.driver_errors import DatabaseUnavailable, translated
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyWebhookInbox

pytestmark = pytest.mark.postgres


async def test_intake_writes_down_in_one_statement_and_reads_nothing(
    wire, database, superuser
) -> None:
    engine = create_engine(wire.url(database.url("tellwire_intake")))
    inbox = SQLAlchemyWebhookInbox(engine)
    try:
        await inbox.append("1", b"\x00 raw \xff")
        wire.clear()
        await inbox.append("1", b"{}")
        assert [sql[:4] for sql in wire.executed] == ["WITH"]
        assert wire.round_trips == 1
        with pytest.raises(RowSecurityViolation):
            async with translated(), engine.connect() as connection:
                await connection.execute(text("SELECT * FROM webhook_inbox"))
    finally:
        await engine.dispose()

    rows = await superuser.fetch("SELECT body, attempts FROM webhook_inbox ORDER BY id")
    assert [row["body"] for row in rows] == [b"\x00 raw \xff", b"{}"]
    assert {row["attempts"] for row in rows} == {0}


@pytest.fixture
async def inbox(database):
    engine = create_engine(database.url("tellwire_intake"), pool_size=4)
    yield SQLAlchemyWebhookInbox(engine)
    await engine.dispose()


async def bodies(superuser):
    rows = await superuser.fetch("SELECT app_id, body FROM webhook_inbox ORDER BY app_id, body")
    return [(row["app_id"], row["body"]) for row in rows]


async def test_a_body_that_comes_again_is_stored_once_for_each_app(inbox, superuser) -> None:
    for app_id in ("1", "2", "1", "1"):
        await inbox.append(app_id, b"same")
    await asyncio.gather(*(inbox.append("3", b"at once") for _ in range(20)))

    assert await bodies(superuser) == [("1", b"same"), ("2", b"same"), ("3", b"at once")]


async def test_bodies_that_come_at_once_are_written_together(inbox, superuser) -> None:
    given = [(f"{n % 3}", b"%03d" % n) for n in range(500)]
    await asyncio.gather(*(inbox.append(*one) for one in given))

    assert await bodies(superuser) == sorted(given)
    transactions = await superuser.fetchval("SELECT count(DISTINCT xmin::text) FROM webhook_inbox")
    assert transactions < 20


async def test_whose_caller_has_gone_does_not_hold_up_the_others(inbox, superuser) -> None:
    appends = [asyncio.ensure_future(inbox.append("1", b"%03d" % n)) for n in range(60)]
    await asyncio.sleep(0)
    for one in appends[::3]:
        one.cancel()
    results = await asyncio.gather(*appends, return_exceptions=True)

    stored = {body for _, body in await bodies(superuser)}
    done = {b"%03d" % n for n, result in enumerate(results) if result is None}
    assert done <= stored
    assert done == {b"%03d" % n for n in range(60) if n % 3}


async def test_those_that_give_up_leave_a_writer_to_the_others(inbox, superuser) -> None:
    for _ in range(5):
        appends = [asyncio.ensure_future(inbox.append("1", b"x%03d" % n)) for n in range(20)]
        await asyncio.sleep(0)
        for one in appends[:10]:
            one.cancel()
        results = await asyncio.gather(*appends, return_exceptions=True)
        assert results[10:] == [None] * 10

    async with asyncio.timeout(10):
        await inbox.append("1", b"afterwards")
    assert ("1", b"afterwards") in await bodies(superuser)


@pytest.mark.parametrize("turns", range(12))
async def test_what_comes_in_the_moment_in_which_writers_end_is_written(
    inbox, superuser, monkeypatch, turns
) -> None:
    """Both writers hear at once that theirs is stored; another comes some turns of the loop later.

    In none of them may it be too late for these writers and too early for a new one.
    """
    begun, both, stored = asyncio.Event(), asyncio.Barrier(2), asyncio.Event()
    insert = SQLAlchemyWebhookInbox._insert

    async def at_once(self, connection, batch):
        begun.set()
        await insert(self, connection, batch)
        if not stored.is_set():
            await both.wait()
            stored.set()

    monkeypatch.setattr(SQLAlchemyWebhookInbox, "_insert", at_once)
    async with asyncio.timeout(10):
        first = asyncio.ensure_future(inbox.append("1", b"first"))
        await begun.wait()  # What comes now is for another writer.
        second = asyncio.ensure_future(inbox.append("1", b"second"))
        await stored.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        await inbox.append("1", b"third")
        await asyncio.gather(first, second)

    assert len(await bodies(superuser)) == 3


async def test_a_database_that_is_away_is_told_to_all_that_wait() -> None:
    engine = create_engine("postgresql+asyncpg://tellwire_intake@/none?host=/nonexistent")
    away = SQLAlchemyWebhookInbox(engine)
    results = await asyncio.gather(
        *(away.append("1", b"%d" % n) for n in range(500)), return_exceptions=True
    )
    await engine.dispose()

    assert {type(result) for result in results} == {DatabaseUnavailable}
