"""Webhooks out: signed, batched, bounded, repeated until they are answered with 200.

Meta, Graph API webhooks: `X-Hub-Signature-256` is the HMAC-SHA256 of the raw body, which is JSON
with everything beyond ASCII escaped in lower case.
"""

import asyncio
import hashlib
import heapq
import hmac
import io
import itertools
import json
from collections import deque
from random import Random
from typing import Any, Literal, NamedTuple

import aiohttp

from shared.kernel.secret import Secret
from whatsapp_simulator.clock import SECOND_NS, SimulatorClock
from whatsapp_simulator.config import WebhookSettings
from whatsapp_simulator.number import Number

USER_AGENT = "facebookexternalua"
_OK = 200
MAX_BODY_BYTES = 3 * 1024 * 1024
"""Of one POST (Meta, WhatsApp webhooks)."""
_CHALLENGE = "1158201444"


class Update(NamedTuple):
    """One thing that happened: a status, an inbound message, or the whole value of a change."""

    number: Number
    kind: Literal["statuses", "messages", "value"]
    item: dict[str, Any]
    contact: dict[str, Any] | None = None
    field: str = "messages"


class Delivery:
    """A signed body on its way, with the updates it carries per number."""

    __slots__ = (
        *("attempt", "body", "born_ns", "generation", "inbound"),
        *("signature", "size", "statuses", "url"),
    )

    def __init__(
        self, url: str, *, body: bytes, signature: str, born_ns: int, generation: int
    ) -> None:
        self.url = url
        self.generation = generation
        self.body = body
        self.signature = signature
        self.born_ns = born_ns
        self.attempt = 0
        self.size = 0
        self.statuses: dict[Number, int] = {}
        self.inbound: dict[Number, int] = {}


def encode(payload: dict[str, Any]) -> bytes:
    """The bytes that are sent: compact JSON, ASCII only."""
    return json.dumps(payload, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def sign(secret: Secret, body: bytes) -> str:
    """The value of `X-Hub-Signature-256` for exactly these bytes."""
    return "sha256=" + hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()


def envelope(updates: list[Update]) -> dict[str, Any]:
    """One payload for all updates: an entry per account, a change per number and kind."""
    entries: dict[str, list[dict[str, Any]]] = {}
    values: dict[tuple[str, str], dict[str, Any]] = {}
    named: set[tuple[str, ...]] = set()
    for update in updates:
        changes = entries.setdefault(update.number.account.waba_id, [])
        if update.kind == "value":
            changes.append({"value": update.item, "field": update.field})
            continue
        key = (update.number.phone_number_id, update.kind)
        value = values.get(key)
        if value is None:
            value = values[key] = _value(update.number)
            changes.append({"value": value, "field": update.field})
        if update.contact is not None:
            who = (*key, update.contact.get("wa_id", ""), update.contact.get("user_id", ""))
            if who not in named:
                named.add(who)
                value.setdefault("contacts", []).append(update.contact)
        value.setdefault(update.kind, []).append(update.item)
    listed = [{"id": waba_id, "changes": changes} for waba_id, changes in entries.items()]
    return {"object": "whatsapp_business_account", "entry": listed}


def _value(number: Number) -> dict[str, Any]:
    return {
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": number.display_digits,
            "phone_number_id": number.phone_number_id,
        },
    }


async def handshake(url: str, verify_token: Secret, *, timeout_s: float = 10) -> bool:
    """Meta's GET check of a callback: true if it answers 200 and the bare challenge."""
    query = {
        "hub.mode": "subscribe",
        "hub.challenge": _CHALLENGE,
        "hub.verify_token": verify_token.reveal(),
    }
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": USER_AGENT}) as http,
            http.get(url, params=query, allow_redirects=False) as answer,
        ):
            return answer.status == _OK and (await answer.text()).strip() == _CHALLENGE
    except (aiohttp.ClientError, TimeoutError):
        return False


class WebhookSender:
    """Collects updates, cuts them into POSTs, and repeats what is not answered with 200."""

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        secret: Secret,
        default_url: str | None,
        clock: SimulatorClock,
        rng: Random,
    ) -> None:
        self._rng = rng
        self._settings = settings
        self._secret = secret
        self._default_url = default_url
        self._clock = clock
        self._waiting: dict[str, deque[Update]] = {}
        self._ready: asyncio.Queue[Delivery] = asyncio.Queue()
        self._failed: list[tuple[int, int, Delivery]] = []
        self._order = itertools.count()
        self._size = 0
        self._generation = 0
        self._goes = asyncio.Event()
        self._begin()

    def _begin(self) -> None:
        """Nothing has happened yet, and nothing is disturbed."""
        self.duplicate, self.shuffle, self.paused = 0.0, False, False
        self.posts = 0
        self.failures = 0
        self.dropped = 0
        self.duplicates = 0
        self.unrouted = 0
        self.given_up = 0
        self.last_failure: str | None = None

    @property
    def paused(self) -> bool:
        """Whether nothing leaves; what is on the wire already is not called back."""
        return not self._goes.is_set()

    @paused.setter
    def paused(self, is_paused: bool) -> None:
        if is_paused:
            self._goes.clear()
        else:
            self._goes.set()

    def url_for(self, number: Number) -> str | None:
        """Where the number's webhooks go: its own override, its account's, or the app's."""
        if not number.account.subscribed:
            return None
        return number.override_url or number.account.override_url or self._default_url

    def offer(self, update: Update) -> None:
        """Queue an update for the next POST; over the bound it is dropped and counted."""
        url = self.url_for(update.number)
        if url is None or self._size >= self._settings.queue:
            self.unrouted += url is None
            self.dropped += url is not None
            update.number.statuses_lost += update.kind == "statuses"
            return
        self._size += 1
        waiting = self._waiting.get(url)
        if waiting is None:
            waiting = self._waiting[url] = deque()
        waiting.append(update)

    def flush(self, now_ns: int) -> None:
        """Cut what waits into POSTs and make due repetitions ready; nothing while paused."""
        if self.paused:
            return
        while self._failed and self._failed[0][0] <= now_ns:
            self._ready.put_nowait(heapq.heappop(self._failed)[2])
        if self._ready.qsize() >= self._settings.concurrency:
            # The receiver is behind: larger batches help it more than a longer queue of POSTs.
            return
        for url, waiting in self._waiting.items():
            if self.shuffle:
                mixed = list(waiting)  # a deque takes linear time to reach its middle
                self._rng.shuffle(mixed)
                waiting.clear()
                waiting.extend(mixed)
            while waiting and self._ready.qsize() < self._settings.concurrency:
                batch = min(self._settings.batch, len(waiting))
                updates = [waiting.popleft() for _ in range(batch)]
                for delivery in self._packed(url, updates):
                    self._ready.put_nowait(delivery)

    def _packed(self, url: str, updates: list[Update]) -> list[Delivery]:
        """The updates in one POST, or in several where one would be larger than Meta's are."""
        body = encode(envelope(updates))
        if len(body) <= MAX_BODY_BYTES or len(updates) == 1:
            return [self._pack(url, updates, body)]
        half = len(updates) // 2
        return [*self._packed(url, updates[:half]), *self._packed(url, updates[half:])]

    def _pack(self, url: str, updates: list[Update], body: bytes) -> Delivery:
        delivery = Delivery(
            url,
            body=body,
            signature=sign(self._secret, body),
            born_ns=self._clock.monotonic_ns(),
            generation=self._generation,
        )
        delivery.size = len(updates)
        for update in updates:
            if update.kind == "value":
                continue
            counts = delivery.statuses if update.kind == "statuses" else delivery.inbound
            counts[update.number] = counts.get(update.number, 0) + 1
        return delivery

    async def work(self, http: aiohttp.ClientSession) -> None:
        """Send ready deliveries one after the other until cancelled."""
        while True:
            delivery = await self._ready.get()
            generation = self._generation
            await self._goes.wait()
            if generation != self._generation:
                continue  # Forgotten while it waited.
            self.posts += 1
            problem = await self._post(http, delivery)
            if generation != self._generation:
                continue
            if problem is not None:
                self.failures += 1
                self.last_failure = problem
            if delivery.generation != generation:
                continue
            if problem is None:
                self._settle(delivery)
            else:
                self._repeat_later(delivery)

    async def _post(self, http: aiohttp.ClientSession, delivery: Delivery) -> str | None:
        headers = {"X-Hub-Signature-256": delivery.signature}
        try:
            # As a file: aiohttp warns of large bytes, and sends files in pieces.
            body = io.BytesIO(delivery.body)
            async with http.post(
                delivery.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                return None if answer.status == _OK else f"HTTP {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return type(error).__name__

    def _settle(self, delivery: Delivery) -> None:
        self._size -= delivery.size
        for number, count in delivery.statuses.items():
            number.statuses_acked += count
        for number, count in delivery.inbound.items():
            number.inbound_acked += count
        if self._rng.random() < self.duplicate:
            self.duplicates += 1
            self._ready.put_nowait(self._copy(delivery))

    def _copy(self, delivery: Delivery) -> Delivery:
        """The same bytes once more, as Meta does now and then; counted for nobody."""
        return Delivery(
            delivery.url,
            body=delivery.body,
            signature=delivery.signature,
            born_ns=delivery.born_ns,
            generation=-1,
        )

    def _repeat_later(self, delivery: Delivery) -> None:
        now_ns = self._clock.monotonic_ns()
        delays = self._settings.retry_delays
        age_s = (now_ns - delivery.born_ns) / SECOND_NS
        if not delays or age_s > self._settings.give_up_after.total_seconds():
            self.given_up += 1
            self._size -= delivery.size
            for number, count in delivery.statuses.items():
                number.statuses_lost += count
            return
        delay = delays[min(delivery.attempt, len(delays) - 1)]
        delivery.attempt += 1
        due_ns = now_ns + int(delay.total_seconds() * SECOND_NS)
        heapq.heappush(self._failed, (due_ns, next(self._order), delivery))

    def clear(self) -> None:
        """Forget what waits, what was counted, and all disturbances.

        What is on the wire arrives uncounted.
        """
        self._waiting.clear()
        self._failed.clear()
        self._size = 0
        self._generation += 1
        while not self._ready.empty():
            self._ready.get_nowait()
        self._begin()

    def report(self) -> dict[str, Any]:
        """Counters as the control API shows them."""
        return {
            "paused": self.paused,
            "duplicate": self.duplicate,
            "shuffle": self.shuffle,
            "updates_waiting": self._size,
            "posts_ready": self._ready.qsize(),
            "posts_to_repeat": len(self._failed),
            "posts": self.posts,
            "failures": self.failures,
            "duplicates": self.duplicates,
            "given_up": self.given_up,
            "dropped": self.dropped,
            "unrouted": self.unrouted,
            "last_failure": self.last_failure,
        }
