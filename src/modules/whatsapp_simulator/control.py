"""The control API under `/_simulator/`: look at what happened, and make things happen."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from whatsapp_simulator.config import SimulatedNumber
from whatsapp_simulator.faults import InvalidFault, parse_fault
from whatsapp_simulator.inbound import InvalidInbound, send_inbound
from whatsapp_simulator.media import InvalidMediaFaults, parse_media_faults
from whatsapp_simulator.number import Number
from whatsapp_simulator.simulator import SIMULATOR, Simulator
from whatsapp_simulator.webhooks import Update, handshake

_PAGE = 10_000
_MOST_INBOUND = 100_000
_CHANGEABLE: dict[str, type] = {
    "messages_per_second": int,
    "display_phone_number": str,
    "verified_name": str,
    "registered": bool,
    "verified": bool,
    "status": str,
    "quality": str,
}

Handler = Callable[[Simulator, web.Request], Awaitable[web.Response]]


class InvalidControl(Exception):
    """The control call cannot be understood; the text says why."""


def add_routes(app: web.Application) -> None:
    """Add every route of the control API."""
    for method, path, handler in (
        ("GET", "health", _health),
        ("GET", "log", _log),
        ("GET", "report", _report),
        ("POST", "inbound", _inbound),
        ("GET", "faults", _list_faults),
        ("POST", "faults", _add_fault),
        ("DELETE", "faults", _clear_faults),
        ("GET", "media", _media),
        ("POST", "media", _spoil_media),
        ("DELETE", "media", _delete_media),
        ("GET", "numbers", _report),
        ("POST", "numbers", _change_number),
        ("POST", "webhooks", _disturb),
        ("POST", "webhooks/pause", _pause),
        ("POST", "webhooks/resume", _resume),
        ("POST", "webhooks/verify", _verify),
        ("POST", "reset", _reset),
    ):
        app.router.add_route(method, f"/_simulator/{path}", _controlled(handler))


def _controlled(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.Response:
        try:
            return await handler(request.app[SIMULATOR], request)
        except (InvalidControl, InvalidFault, InvalidInbound, InvalidMediaFaults) as error:
            return _json({"error": str(error)}, status=422)

    return handle


def _json(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


async def _object(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise InvalidControl("a JSON object is needed")
    return body


def _integer(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name, default))
    except ValueError:
        raise InvalidControl(f"'{name}' must be a number") from None


async def _health(_sim: Simulator, _request: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _log(sim: Simulator, request: web.Request) -> web.Response:
    having = b""
    if wanted := request.query.get("phone_number_id"):
        having = b'"phone_number_id":' + orjson.dumps(wanted)
    page = sim.log.query(
        since=_integer(request, "since", 0),
        limit=max(1, _integer(request, "limit", _PAGE)),
        having=having,
    )
    return web.Response(body=page, content_type="application/json")


async def _report(sim: Simulator, request: web.Request) -> web.Response:
    return _json(sim.report(request.query.get("phone_number_id")))


def _number(sim: Simulator, wanted: dict[str, Any]) -> Number:
    number = sim.number_or_open(str(wanted.get("phone_number_id")))
    if number is None:
        raise InvalidControl("'phone_number_id' is not the id of a simulated number")
    return number


async def _inbound(sim: Simulator, request: web.Request) -> web.Response:
    body = await _object(request)
    if isinstance(body.get("value"), dict):
        field = str(body.get("field", "messages"))
        sim.sender.offer(Update(_number(sim, body), "value", body["value"], field=field))
        return _json({"ids": []}, status=202)
    wanted = body.get("messages", [body])
    count = body.get("count", 1)
    if not isinstance(wanted, list) or not isinstance(count, int) or count < 1:
        raise InvalidControl("'messages' must be an array and 'count' a positive number")
    if count * len(wanted) > _MOST_INBOUND or not all(isinstance(w, dict) for w in wanted):
        raise InvalidControl(f"at most {_MOST_INBOUND} messages, each an object")
    merged = [{**body, **message} for message in wanted]
    numbers = [_number(sim, message) for message in merged]
    ids = [
        send_inbound(sim, number, message)
        for _ in range(count)
        for number, message in zip(numbers, merged, strict=True)
    ]
    return _json({"ids": ids}, status=202)


async def _list_faults(sim: Simulator, _request: web.Request) -> web.Response:
    return _json({"faults": [asdict(fault) for fault in sim.faults.active]})


async def _add_fault(sim: Simulator, request: web.Request) -> web.Response:
    body = await _object(request)
    given = body.get("faults", [body])
    if not isinstance(given, list):
        raise InvalidControl("'faults' must be an array")
    sim.faults.active.extend([parse_fault(raw) for raw in given])
    return await _list_faults(sim, request)


async def _clear_faults(sim: Simulator, request: web.Request) -> web.Response:
    sim.faults.active.clear()
    return await _list_faults(sim, request)


async def _media(sim: Simulator, _request: web.Request) -> web.Response:
    return _json({**sim.media.report(), "faults": asdict(sim.media.faults)})


async def _spoil_media(sim: Simulator, request: web.Request) -> web.Response:
    sim.media.faults = parse_media_faults(await _object(request))
    return await _media(sim, request)


async def _delete_media(sim: Simulator, request: web.Request) -> web.Response:
    """Meta forgets every file, as it does in time."""
    sim.media.forget()
    return await _media(sim, request)


async def _change_number(sim: Simulator, request: web.Request) -> web.Response:
    body = await _object(request)
    known = sim.numbers.get(str(body.get("phone_number_id")))
    if known is None and "access_token" in body:
        number = sim.add_number(_new_number(body))
    else:
        number = _number(sim, body)
        _change(number, body)
    return _json(number.report(sim.clock.monotonic_ns()))


def _new_number(body: dict[str, Any]) -> SimulatedNumber:
    try:
        return TypeAdapter(SimulatedNumber).validate_python(body)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problems)
        raise InvalidControl(where) from None


def _change(number: Number, body: dict[str, Any]) -> None:
    changes = {key: value for key, value in body.items() if key != "phone_number_id"}
    for key, value in changes.items():
        if key not in _CHANGEABLE or type(value) is not _CHANGEABLE[key]:
            raise InvalidControl(f"'{key}' cannot be changed, or has the wrong type")
    if changes.get("messages_per_second", 1) < 1:
        raise InvalidControl("'messages_per_second' must be positive")
    for key, value in changes.items():
        setattr(number, key, value)


async def _disturb(sim: Simulator, request: web.Request) -> web.Response:
    body = await _object(request)
    duplicate = body.get("duplicate", sim.sender.duplicate)
    shuffle = body.get("shuffle", sim.sender.shuffle)
    if not isinstance(duplicate, int | float) or not 0 <= duplicate <= 1:
        raise InvalidControl("'duplicate' must be a share between 0 and 1")
    if not isinstance(shuffle, bool):
        raise InvalidControl("'shuffle' must be true or false")
    sim.sender.duplicate, sim.sender.shuffle = float(duplicate), shuffle
    return _json(sim.sender.report())


async def _pause(sim: Simulator, _request: web.Request) -> web.Response:
    sim.sender.paused = True
    return _json(sim.sender.report())


async def _resume(sim: Simulator, _request: web.Request) -> web.Response:
    sim.sender.paused = False
    return _json(sim.sender.report())


async def _verify(sim: Simulator, request: web.Request) -> web.Response:
    body = await _object(request)
    url = body.get("url") or sim.config.webhook_url
    if not isinstance(url, str):
        raise InvalidControl("there is no webhook address to verify")
    return _json({"verified": await handshake(url, sim.config.verify_token)})


async def _reset(sim: Simulator, _request: web.Request) -> web.Response:
    sim.reset()
    return _json({"status": "ok"})
