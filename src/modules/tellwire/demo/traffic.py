"""The demonstration's traffic: messages through the HTTP API, followed until they are read."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from shared.kernel.errors import Unavailable
from tellwire.demo.scene import DemoTenant

CONCURRENT_POSTS: Final = 16
FOLLOW_EVERY_SECONDS: Final = 0.3
PAGE: Final = 200
FINAL: Final = frozenset({"read", "failed", "cancelled", "expired"})
STALLED_AFTER_SECONDS: Final = 30.0
"""Following ends if no message moves for this long; the report then says what is missing."""

Progress = Callable[[int, int], None]
"""Told how many messages were accepted and how many have come to their end."""


class DemoFailed(Unavailable):
    """The API answered in a way that the demonstration does not expect."""

    code = "demo_failed"
    title = "The demonstration could not go on"


@dataclass(slots=True)
class Followed:
    """What became of one tenant's messages: status and reason of failure by message id."""

    tenant: DemoTenant
    statuses: dict[str, str] = field(default_factory=dict[str, str])
    reasons: Counter[str] = field(default_factory=Counter[str])

    @property
    def accepted(self) -> int:
        """How many messages the API took."""
        return len(self.statuses)

    @property
    def finished(self) -> int:
        """How many have come to their end."""
        return sum(status in FINAL for status in self.statuses.values())

    def reached(self, *statuses: str) -> int:
        """How many stand at one of `statuses`."""
        return sum(status in statuses for status in self.statuses.values())


async def send_and_follow(
    http: aiohttp.ClientSession,
    url: str,
    tenants: Sequence[DemoTenant],
    *,
    run: str,
    messages: int,
    progress: Progress,
) -> list[Followed]:
    """Post `messages` per tenant and follow them to their end; `run` makes their keys unique."""
    followed = [Followed(tenant) for tenant in tenants]
    posts = asyncio.Semaphore(CONCURRENT_POSTS)

    def tell() -> None:
        progress(sum(f.accepted for f in followed), sum(f.finished for f in followed))

    async def post(one: Followed, number: int) -> None:
        async with posts:
            message = await _post(http, url, one.tenant, run=run, number=number)
        one.statuses[message["id"]] = message["status"]
        tell()

    async with asyncio.TaskGroup() as tasks:
        for number in range(messages):
            for one in followed:
                tasks.create_task(post(one, number))
    await _follow(http, url, followed, tell)
    return followed


async def _post(
    http: aiohttp.ClientSession, url: str, tenant: DemoTenant, *, run: str, number: int
) -> dict[str, Any]:
    body = {
        "channel_id": tenant.channel_id,
        "to": f"+4915550{number:06d}",
        "type": "text",
        "text": {"body": f"Your order {number} from {tenant.name} is on its way."},
    }
    headers = _bearer(tenant) | {"Idempotency-Key": f"{run}-{number}"}
    async with http.post(f"{url}/v1/messages", json=body, headers=headers) as answer:
        message: dict[str, Any] = await answer.json()
        if answer.status not in {200, 202}:
            raise DemoFailed(f"POST /v1/messages gave {answer.status}: {message.get('code')}")
        return message


async def _follow(
    http: aiohttp.ClientSession,
    url: str,
    followed: Sequence[Followed],
    tell: Callable[[], None],
) -> None:
    moved_at, before = time.monotonic(), -1
    while any(one.finished < one.accepted for one in followed):
        finished = sum(one.finished for one in followed)
        if finished != before:
            moved_at, before = time.monotonic(), finished
        elif time.monotonic() - moved_at > STALLED_AFTER_SECONDS:
            return
        await asyncio.sleep(FOLLOW_EVERY_SECONDS)
        for one in followed:
            await _look(http, url, one)
        tell()


async def _look(http: aiohttp.ClientSession, url: str, one: Followed) -> None:
    """Bring the statuses up to date, page by page of the tenant's list."""
    missing = {key for key, status in one.statuses.items() if status not in FINAL}
    query = {"limit": str(PAGE)}
    while missing:
        async with http.get(f"{url}/v1/messages", params=query, headers=_bearer(one.tenant)) as got:
            if got.status != 200:  # noqa: PLR2004  # HTTP's own number
                raise DemoFailed(f"GET /v1/messages gave {got.status}")
            page = await got.json()
        for message in page["data"]:
            if message["id"] in missing:
                missing.discard(message["id"])
                one.statuses[message["id"]] = message["status"]
                if message["status"] == "failed":
                    one.reasons[(message.get("failure") or {}).get("title", "unknown")] += 1
        if page.get("next_cursor") is None:
            return
        query["cursor"] = page["next_cursor"]


def _bearer(tenant: DemoTenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.api_key}"}
