"""What becomes of an accepted message: which statuses are reported, when, and how they look."""

import hashlib
from datetime import timedelta
from random import Random
from typing import Any, NamedTuple

from whatsapp_simulator.behaviour import Behaviour, Script
from whatsapp_simulator.clock import SECOND_NS, SimulatorClock
from whatsapp_simulator.config import StatusDelays, WebhookSettings
from whatsapp_simulator.graph_errors import reported
from whatsapp_simulator.number import Number
from whatsapp_simulator.webhooks import Update, WebhookSender

_CONVERSATIONS_END_WITH_VERSION = 24.0
_FREE_SERVICE = {
    "billable": False,
    "pricing_model": "PMP",
    "type": "free_customer_service",
    "category": "service",
}
_WINDOW_S = 24 * 3600
_ENDS_IN_FAILURE = frozenset({"held_failed", "sent_after_failed"})
_DEFAULT_FAILURES: dict[Script, int] = {"held_failed": 132015, "sent_after_failed": 131000}
_ARRIVALS = ("delivered", "read")


class SentMessage(NamedTuple):
    """What a status has to say about its message; at least one of the recipients is there."""

    number: Number
    wamid: str
    wa_id: str | None
    user_id: str | None
    callback: str | None
    category: str
    type: str
    voice: bool


class Step(NamedTuple):
    """One status: when after acceptance, which, and with which error code."""

    after_ns: int
    status: str
    code: int | None = None
    priced: bool = False


class Delays(NamedTuple):
    """`StatusDelays` in nanoseconds, worked out once."""

    sent: int
    delivered: int
    read: int
    played: int
    late: int
    hold: int
    jitter: float

    @classmethod
    def of(cls, delays: StatusDelays) -> "Delays":
        """Convert the configured durations."""
        return cls(
            sent=_nanoseconds(delays.sent),
            delivered=_nanoseconds(delays.delivered),
            read=_nanoseconds(delays.read),
            played=_nanoseconds(delays.played),
            late=_nanoseconds(delays.late),
            hold=_nanoseconds(delays.hold),
            jitter=delays.jitter,
        )


def _nanoseconds(span: timedelta) -> int:
    return int(span.total_seconds() * SECOND_NS)


_SENT, _DELIVERED, _READ, _AT_ONCE, _PLAYED = 0, 1, 2, 3, 4
_Reports = tuple[tuple[int, str], ...]
_SCRIPTS: dict[Script, _Reports] = {
    "normal": ((_SENT, "sent"), (_DELIVERED, "delivered"), (_READ, "read")),
    "late": ((_SENT, "sent"), (_DELIVERED, "delivered"), (_READ, "read")),
    "held": ((_SENT, "sent"), (_DELIVERED, "delivered"), (_READ, "read")),
    "reversed": ((_SENT, "read"), (_DELIVERED, "delivered"), (_READ, "sent")),
    "doubled": (
        *((_SENT, "sent"), (_SENT, "sent")),
        *((_DELIVERED, "delivered"), (_DELIVERED, "delivered")),
        *((_READ, "read"), (_READ, "read")),
    ),
    "lost": (),
    "read_only": ((_READ, "read"),),
    "sent_only": ((_SENT, "sent"),),
    "delivered_only": ((_SENT, "sent"), (_DELIVERED, "delivered")),
    "no_delivered": ((_SENT, "sent"), (_READ, "read")),
    "early": ((_AT_ONCE, "sent"), (_DELIVERED, "delivered"), (_READ, "read")),
    "delivered_first": ((_SENT, "delivered"), (_DELIVERED, "sent"), (_READ, "read")),
    "held_failed": ((_AT_ONCE, "failed"),),
    "sent_after_failed": ((_SENT, "failed"), (_DELIVERED, "sent")),
}
"""Which status is reported at which of a message's times."""
_REVERSED_VOICE: _Reports = (
    *((_SENT, "played"), (_DELIVERED, "read"), (_READ, "delivered"), (_PLAYED, "sent")),
)
_OF_A_REACTION = frozenset({"sent", "failed"})
_FAILURES: dict[str, _Reports] = {
    "accepted": ((_SENT, "failed"),),
    "sent": ((_SENT, "sent"), (_DELIVERED, "failed")),
    "delivered": ((_SENT, "sent"), (_DELIVERED, "delivered"), (_READ, "failed")),
}


def plan(
    message: SentMessage, behaviour: Behaviour, *, delays: Delays, stretch: float
) -> list[Step]:
    """The statuses of one message in the order in which they are reported.

    `stretch` scales all delays of the message alike, so that jitter never changes their order.
    """
    script = behaviour.script
    reports = _reports(message, behaviour)
    times = [int(delay * stretch) for delay in delays[:3]]
    times += [0, max(times[_READ], int(delays.played * stretch))]
    shift = _shift(behaviour, delays)
    failed = _DEFAULT_FAILURES.get(script) if behaviour.failed is None else behaviour.failed
    steps = [
        Step(times[when] + shift, status, failed if status == "failed" else None)
        for when, status in reports
    ]
    return _priced(steps)


def _reports(message: SentMessage, behaviour: Behaviour) -> _Reports:
    """The script, as far as this kind of message has it; voice notes are played once read."""
    script = behaviour.script
    reports = _SCRIPTS[script]
    if behaviour.failed is not None and script not in _ENDS_IN_FAILURE:
        reports = _FAILURES[behaviour.failed_after]
    if message.type == "reaction":
        return tuple(one for one in reports if one[1] in _OF_A_REACTION)
    if not message.voice:
        return reports
    if reports is _SCRIPTS["reversed"]:
        return _REVERSED_VOICE
    return reports + tuple((_PLAYED, "played") for _, status in reports if status == "read")


def _shift(behaviour: Behaviour, delays: Delays) -> int:
    match behaviour.script:
        case "late" if behaviour.late_s is not None:
            return int(behaviour.late_s * SECOND_NS)
        case "late":
            return delays.late
        case "held" | "held_failed":
            return delays.hold
        case _:
            return 0


def _priced(steps: list[Step]) -> list[Step]:
    """The price is told with `sent` and with the first sign of delivery, and not otherwise."""
    arrival = next((s.status for s in steps if s.status in _ARRIVALS), None)
    return [s._replace(priced=s.status in {"sent", arrival}) for s in steps]


class StatusBoard:
    """Holds planned statuses until they are due, in buckets of one tick."""

    def __init__(
        self,
        *,
        tick_ns: int,
        clock: SimulatorClock,
        sender: WebhookSender,
        settings: WebhookSettings,
    ) -> None:
        self._tick_ns = max(tick_ns, 1)
        self._clock = clock
        self._sender = sender
        self._with_conversation = float(settings.version[1:]) < _CONVERSATIONS_END_WITH_VERSION
        self._with_contacts = settings.status_contacts
        self._buckets: dict[int, list[tuple[SentMessage, Step]]] = {}
        self._done = clock.monotonic_ns() // self._tick_ns

    def schedule(self, message: SentMessage, steps: list[Step], now_ns: int) -> None:
        """Report these statuses in time."""
        message.number.statuses_planned += len(steps)
        for step in steps:
            tick = max((now_ns + step.after_ns) // self._tick_ns, self._done) + 1
            bucket = self._buckets.get(tick)
            if bucket is None:
                bucket = self._buckets[tick] = []
            bucket.append((message, step))

    def release(self, now_ns: int) -> None:
        """Offer what is due to the webhooks."""
        wall_s = self._clock.wall_ns() // SECOND_NS
        current = now_ns // self._tick_ns
        for tick in range(self._done + 1, current + 1):
            for message, step in self._buckets.pop(tick, ()):
                item = self.payload(message, step, wall_s)
                contact = _contact(message) if self._with_contacts else None
                self._sender.offer(Update(message.number, "statuses", item, contact))
        self._done = max(self._done, current)

    def clear(self) -> None:
        """Forget all planned statuses."""
        self._buckets.clear()

    def payload(self, message: SentMessage, step: Step, wall_s: int) -> dict[str, Any]:
        """An element of `statuses[]`; source: Meta, status messages webhook reference."""
        item: dict[str, Any] = {
            "id": message.wamid,
            "status": step.status,
            "timestamp": str(wall_s),
        }
        if message.wa_id is not None:
            item["recipient_id"] = message.wa_id
        if message.user_id is not None:
            item["recipient_user_id"] = message.user_id
        if message.callback is not None:
            item["biz_opaque_callback_data"] = message.callback
        if step.code is not None:
            item["errors"] = [reported(step.code)]
        elif step.priced:
            item["pricing"] = _pricing(message.category)
            if self._with_conversation:
                item["conversation"] = _conversation(message, step, wall_s)
        return item


def _contact(message: SentMessage) -> dict[str, str]:
    ids = {"wa_id": message.wa_id, "user_id": message.user_id}
    return {key: value for key, value in ids.items() if value is not None}


def _pricing(category: str) -> dict[str, Any]:
    if category == "service":
        return _FREE_SERVICE
    return {"billable": True, "pricing_model": "PMP", "type": "regular", "category": category}


def _conversation(message: SentMessage, step: Step, wall_s: int) -> dict[str, Any]:
    digest = hashlib.blake2b(message.wamid.encode(), digest_size=16).hexdigest()
    conversation: dict[str, Any] = {"id": digest, "origin": {"type": message.category}}
    if step.status == "sent":
        conversation["expiration_timestamp"] = str(wall_s + _WINDOW_S)
    return conversation


def stretch_of(rng: Random, jitter: float) -> float:
    """A factor between 1 - jitter and 1 + jitter."""
    return 1.0 + jitter * (2.0 * rng.random() - 1.0)
