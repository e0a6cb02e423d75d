"""`POST /{version}/{phone_number_id}/messages`: the endpoint that everything else is for.

The path of a normal message has no await between the look at the clock and the decision, so that
the order of acceptance is the order of the clock, and the limits are exact.
"""

import asyncio
from typing import Any

import orjson
from aiohttp import web

from whatsapp_simulator.behaviour import NORMAL, Behaviour, magic
from whatsapp_simulator.breakage import misbehave
from whatsapp_simulator.graph_errors import THROTTLES, THROUGHPUT_SUBCODE, GraphError, answer
from whatsapp_simulator.identity import user_id_of, wa_id_of
from whatsapp_simulator.number import Number
from whatsapp_simulator.simulator import SIMULATOR, Simulator
from whatsapp_simulator.statuses import SentMessage, plan, stretch_of
from whatsapp_simulator.templates import Template
from whatsapp_simulator.validation import Outgoing, check_message

JSON_TYPE = "application/json; charset=UTF-8"
_HEADERS = {"Content-Type": JSON_TYPE}
_RECEIPT_KINDS = ("read",)


async def post_messages(request: web.Request) -> web.StreamResponse:
    """Accept or refuse one message, read receipt or typing indicator, as Meta does."""
    sim = request.app[SIMULATOR]
    raw = await request.read()
    visit = Visit(sim, request)
    try:
        number = sim.authorised_number(request, visit.phone_number_id)
        payload = _parse(raw)
        if payload.get("status") is not None:
            return visit.receipt(number, payload)
        return await visit.message(number, payload)
    except GraphError as refusal:
        return visit.refuse(refusal)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(raw)
    except orjson.JSONDecodeError:
        payload = None
    if not isinstance(payload, dict):
        raise GraphError(100, "The body is not a JSON object")
    return payload


class Visit:
    """One request to the endpoint, from arrival to the line in the log."""

    __slots__ = ("arrived_ns", "entry", "number", "phone_number_id", "request", "sim")

    def __init__(self, sim: Simulator, request: web.Request) -> None:
        self.sim = sim
        self.request = request
        self.phone_number_id = request.match_info["phone_number_id"]
        self.number: Number | None = None
        self.arrived_ns = sim.clock.monotonic_ns()
        self.entry: dict[str, Any] = {
            "mono_ns": self.arrived_ns,
            "wall_ns": sim.clock.wall_ns(),
            "phone_number_id": self.phone_number_id,
            "kind": "message",
        }

    def log(self, outcome: str, **more: Any) -> None:
        """Write the one line of this request."""
        self.entry["outcome"] = outcome
        self.entry.update(more)
        self.sim.log.record(self.entry)

    def refuse(self, refusal: GraphError) -> web.Response:
        """Answer Meta's error; counts it for the number if it is known."""
        http = refusal.http
        if refusal.code in THROTTLES:
            http = self.sim.config.throttle_http_status
        if self.number is not None:
            self.number.rejected[refusal.code] += 1
        self.log("rejected", code=refusal.code, http=http)
        body = orjson.dumps(answer(refusal, self.sim.names.trace_id()))
        return web.Response(status=http, body=body, headers=_HEADERS)

    def receipt(self, number: Number, payload: dict[str, Any]) -> web.Response:
        """Mark an inbound message as read, or show that an answer is being typed."""
        self.entry["kind"] = "typing" if "typing_indicator" in payload else "read"
        if payload.get("messaging_product") != "whatsapp":
            raise GraphError(100, "The parameter messaging_product is required.")
        if payload["status"] not in _RECEIPT_KINDS:
            raise GraphError(131009, "Parameter 'status' must be read")
        message_id = payload.get("message_id")
        if not isinstance(message_id, str) or not message_id:
            raise GraphError(131008, "Parameter 'message_id' is mandatory")
        if message_id not in number.inbound_ids:
            raise GraphError(131009, "Parameter 'message_id' is not the id of a received message")
        self.log("accepted", http=200, wamid=message_id)
        return web.Response(body=b'{"success":true}', headers=_HEADERS)

    async def message(self, number: Number, payload: dict[str, Any]) -> web.StreamResponse:
        """Check, limit, accept and answer a message, or do what its behaviour says."""
        self.number = number
        number.offered += 1
        number.offered_window.add(self.arrived_ns)
        outgoing = check_message(payload)
        self.entry["type"] = outgoing.type
        self.entry["to"] = outgoing.to or outgoing.recipient
        self.entry["callback"] = outgoing.callback
        template = self._check_references(number, outgoing)
        behaviour = self._behaviour(outgoing)
        if behaviour is not NORMAL:
            broken = await self._before(number, behaviour)
            if broken is not None:
                return broken
        self._check_limits(number, outgoing)
        return await self._accept(number, outgoing, template=template, behaviour=behaviour)

    def _check_references(self, number: Number, outgoing: Outgoing) -> Template | None:
        """Check what the message refers to: its template, its media."""
        sim = self.sim
        if outgoing.media is not None and sim.config.check_media:
            media = sim.media.find(outgoing.media)
            if media is None or media.phone_number_id != number.phone_number_id:
                raise GraphError(
                    100,
                    f"Param {outgoing.type}['id'] is not a valid whatsapp business account media "
                    "attachment ID",
                )
        if outgoing.type != "template":
            return None
        template = sim.templates.check(outgoing.content)
        if template.category == "AUTHENTICATION" and outgoing.to is None:
            raise GraphError(131062, "Authentication templates need a phone number")
        return template

    def _behaviour(self, outgoing: Outgoing) -> Behaviour:
        if self.sim.faults.active:
            fault = self.sim.faults.take(self.phone_number_id)
            if fault is not None:
                return fault
        return magic(outgoing.to or outgoing.recipient or "")

    async def _before(self, number: Number, behaviour: Behaviour) -> web.StreamResponse | None:
        """What happens instead of acceptance, if anything."""
        if behaviour.latency_ms:
            await asyncio.sleep(behaviour.latency_ms / 1000)
            self.arrived_ns = self.sim.clock.monotonic_ns()
        if behaviour.before is not None:
            number.broken[f"{behaviour.before} before"] += 1
            self.log("broken", fault=f"{behaviour.before} before")
            return await misbehave(self.request, behaviour.before, http=behaviour.http)
        if behaviour.error is not None:
            raise GraphError(behaviour.error, "Asked for by the simulator's user")
        return None

    def _check_limits(self, number: Number, outgoing: Outgoing) -> None:
        obstacle = number.obstacle()
        if obstacle is not None:
            raise GraphError(obstacle, "The phone number cannot send in its present state")
        if outgoing.to == number.display_digits:
            raise GraphError(131021, "Recipient and sender are the same number")
        if self.sim.config.windows == "sync" and self._outside_window(number, outgoing):
            raise GraphError(131047, "More than 24 hours have passed since the user's last message")
        user = _user_of(outgoing)
        limited = self.sim.config.pair_limit
        if limited and not number.pairs.allows(user, self.arrived_ns):
            raise GraphError(131056, "Too many messages to this user; wait and try again")
        if not number.accepted_window.try_add(self.arrived_ns, number.messages_per_second):
            details = "Cloud API message throughput has been reached."
            raise GraphError(130429, details, subcode=THROUGHPUT_SUBCODE)
        if limited:
            number.pairs.consume(user, self.arrived_ns)

    def _outside_window(self, number: Number, outgoing: Outgoing) -> bool:
        if outgoing.type == "template":
            return False
        return not number.window_is_open(_user_of(outgoing), self.arrived_ns)

    async def _accept(
        self,
        number: Number,
        outgoing: Outgoing,
        *,
        template: Template | None,
        behaviour: Behaviour,
    ) -> web.StreamResponse:
        sim = self.sim
        sent = self._sent(number, outgoing, template=template, behaviour=behaviour)
        number.accept(sent.wamid, sent.callback)
        if sim.config.windows == "async" and self._outside_window(number, outgoing):
            behaviour = Behaviour(failed=131047)
        if sent.type == "reaction" and outgoing.content["message_id"] not in number.inbound_ids:
            behaviour = Behaviour(failed=131009)
        stretch = stretch_of(sim.rng, sim.delays.jitter)
        steps = plan(sent, behaviour, delays=sim.delays, stretch=stretch)
        sim.board.schedule(sent, steps, self.arrived_ns)
        fault = None if behaviour.after is None else f"{behaviour.after} after"
        self.log("accepted", http=200, wamid=sent.wamid, fault=fault)
        if behaviour.after is not None:
            number.broken[f"{behaviour.after} after"] += 1
            return await misbehave(self.request, behaviour.after, http=behaviour.http)
        wait_s = behaviour.slow_ms / 1000 + sim.config.latency.total_seconds()
        if wait_s:
            await asyncio.sleep(wait_s)
        return web.Response(body=_body(outgoing, sent, behaviour), headers=_HEADERS)

    def _sent(
        self,
        number: Number,
        outgoing: Outgoing,
        *,
        template: Template | None,
        behaviour: Behaviour,
    ) -> SentMessage:
        to = outgoing.to
        wa_id = None if to is None else wa_id_of(to)
        user_id = outgoing.recipient if wa_id is None else user_id_of(wa_id)
        if behaviour.identity == "bsuid":
            wa_id = None
        return SentMessage(
            number=number,
            wamid=self.sim.names.wamid(to or outgoing.recipient or ""),
            wa_id=wa_id,
            user_id=user_id,
            callback=outgoing.callback,
            category="service" if template is None else template.category.lower(),
            type=outgoing.type,
            voice=outgoing.voice,
        )


def _user_of(outgoing: Outgoing) -> str:
    """What the user is counted under: the wa_id, or the BSUID where no number was given."""
    return wa_id_of(outgoing.to) if outgoing.to else outgoing.recipient or ""


def _body(outgoing: Outgoing, sent: SentMessage, behaviour: Behaviour) -> bytes:
    """The answer to an accepted message; source: Meta, Cloud API messages endpoint."""
    contact: dict[str, str] = {"input": outgoing.given}
    if sent.wa_id is not None:
        contact["wa_id"] = sent.wa_id
    shows_user_id = outgoing.recipient is not None or behaviour.identity != "phone"
    if shows_user_id and sent.user_id is not None:
        contact["user_id"] = sent.user_id
    message = {"id": sent.wamid}
    if behaviour.script in {"held", "held_failed"}:
        message["message_status"] = "held_for_quality_assessment"
    elif outgoing.type == "template":
        message["message_status"] = "accepted"
    return orjson.dumps(
        {"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]}
    )
