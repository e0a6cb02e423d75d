"""What every Graph call shares: its line in the log, its parameters, fields and refusals."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from shared.kernel.secret import Secret
from whatsapp_simulator.graph_errors import GraphError, answer
from whatsapp_simulator.simulator import SIMULATOR, Simulator
from whatsapp_simulator.webhooks import handshake

Handler = Callable[[Simulator, web.Request], Awaitable[web.StreamResponse]]

SUCCESS = {"success": True}
_MAX_OVERRIDE_CHARACTERS = 200


def graph_call(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Log the call, and answer refusals in Meta's shape."""

    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        sim = request.app[SIMULATOR]
        entry = {
            "mono_ns": sim.clock.monotonic_ns(),
            "wall_ns": sim.clock.wall_ns(),
            "phone_number_id": request.match_info.get("id"),
            "kind": "graph",
            "call": f"{request.method} {request.path}",
        }
        try:
            response = await handler(sim, request)
        except GraphError as refusal:
            body = answer(refusal, sim.names.trace_id())
            sim.log.record(
                {**entry, "outcome": "rejected", "code": refusal.code, "http": refusal.http}
            )
            return json_answer(body, status=refusal.http)
        sim.log.record({**entry, "outcome": "accepted", "http": response.status})
        return response

    return handle


def json_answer(body: Any, *, status: int = 200) -> web.Response:
    """A JSON response as Graph sends it."""
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    return web.Response(body=orjson.dumps(body), status=status, headers=headers)


async def parameters_of(request: web.Request) -> dict[str, Any]:
    """Parameters of a call: query, form or JSON, as Graph takes them."""
    given: dict[str, Any] = dict(request.query)
    if request.content_type in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        given.update({key: str(value) for key, value in (await request.post()).items()})
        return given
    raw = await request.read()
    if raw:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            raise GraphError(100, "The body is not a JSON object")
        given.update(body)
    return given


def _fields(request: web.Request, default: str) -> list[str]:
    wanted = request.query.get("fields") or default
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    return list(dict.fromkeys([*names, "id"]))


def select(values: dict[str, Any], request: web.Request, default: str) -> dict[str, Any]:
    """The fields asked for and the id; 100 for a field that does not exist."""
    wanted = _fields(request, default)
    unknown = [name for name in wanted if name not in values]
    if unknown:
        raise GraphError(100, title=f"Tried accessing nonexisting field ({unknown[0]})")
    return {name: values[name] for name in wanted if values[name] is not None}


async def verified_override(given: dict[str, Any]) -> str | None:
    """The address of an override after Meta's handshake with it; None removes the override."""
    url = given.get("override_callback_uri")
    if not url:
        return None
    if not isinstance(url, str) or len(url) > _MAX_OVERRIDE_CHARACTERS:
        raise GraphError(100, "override_callback_uri must be a URL of at most 200 characters")
    token = Secret(str(given.get("verify_token", "")))
    if not await handshake(url, token):
        raise GraphError(2200, "The callback did not answer the challenge")
    return url
