"""Asking for the same app at the same time."""

import asyncio

import pytest

from shared.kernel.errors import Unavailable
from shared.kernel.secret import Secret
from whatsapp.application.receive_webhook import REMEMBERED_FOR, KnownApps
from whatsapp.domain.entities.meta_app import MetaApp

APP = MetaApp(app_id="1", secret=Secret("app-secret"), verify_token=Secret("verify-token"))


class Apps:
    """Where apps are stored; slow, and not always there."""

    def __init__(self, *apps: MetaApp) -> None:
        self.apps = {app.app_id: app for app in apps}
        self.asked: list[str] = []
        self.is_gone = False

    async def find_app(self, app_id: str) -> MetaApp | None:
        self.asked.append(app_id)
        await asyncio.sleep(0.01)
        if self.is_gone:
            raise Unavailable
        return self.apps.get(app_id)


async def test_those_who_ask_at_the_same_time_wait_for_one_answer_each_time_it_is_forgotten():
    apps, now = Apps(APP), 0.0
    known = KnownApps(apps=apps, monotonic=lambda: now)
    for _ in range(2):
        assert await asyncio.gather(*(known("1") for _ in range(50))) == [APP] * 50
        assert await known("1") == APP
        now += REMEMBERED_FOR.total_seconds() + 1

    assert apps.asked == ["1", "1"]
    assert await asyncio.gather(known("2"), known("2"), known("no id")) == [None] * 3
    assert apps.asked == ["1", "1", "2"]


async def test_whoever_stops_waiting_takes_the_answer_from_nobody():
    known = KnownApps(apps=Apps(APP))
    first, second = (asyncio.create_task(known("1")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()

    assert await second == APP


async def test_a_failure_is_everybodys_and_is_not_remembered():
    apps = Apps(APP)
    known = KnownApps(apps=apps)
    apps.is_gone = True
    answers = await asyncio.gather(known("1"), known("1"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 2

    apps.is_gone = False
    assert await known("1") == APP


@pytest.mark.parametrize("app_id", ["", "a/b", "x" * 65])
async def test_what_cannot_be_an_id_costs_no_query(app_id):
    apps = Apps(APP)

    assert await KnownApps(apps=apps)(app_id) is None
    assert not apps.asked
