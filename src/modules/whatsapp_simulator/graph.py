"""The rest of the Graph API that a sender needs: numbers, accounts, templates, media, tokens."""

import functools
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import BodyPartReader, web

from whatsapp_simulator.clock import SECOND_NS
from whatsapp_simulator.graph_errors import GraphError, answer, unknown_object
from whatsapp_simulator.media import MAX_BYTES, Media
from whatsapp_simulator.number import Account, Number
from whatsapp_simulator.simulator import SIMULATOR, Simulator, bearer_of
from whatsapp_simulator.webhooks import handshake

Handler = Callable[[Simulator, web.Request], Awaitable[web.StreamResponse]]

_VERSION = r"/{version:v\d+\.\d+}"
_PIN_DIGITS = 6
_MOST_REGISTRATIONS = 10
_REGISTRATION_SPAN_NS = 72 * 3600 * SECOND_NS
_MAX_OVERRIDE_CHARACTERS = 200
_MAX_MEDIA_BYTES = 100 * 1024 * 1024
_NUMBER_FIELDS = "id,display_phone_number,verified_name,quality_rating"
_ACCOUNT_FIELDS = "id,name,currency,timezone_id,message_template_namespace"
_SUCCESS = {"success": True}
_SCOPES = ("whatsapp_business_management", "whatsapp_business_messaging")


def add_routes(app: web.Application) -> None:
    """Add every route but the messages endpoint."""
    node = _VERSION + "/{id}"
    for method, path, handler in (
        ("GET", f"{_VERSION}/debug_token", _debug_token),
        ("GET", node, _get_node),
        ("POST", node, _post_node),
        ("DELETE", node, _delete_node),
        ("POST", f"{node}/register", _register),
        ("POST", f"{node}/deregister", _deregister),
        ("POST", f"{node}/request_code", _request_code),
        ("POST", f"{node}/verify_code", _verify_code),
        ("POST", f"{node}/media", _upload),
        ("GET", f"{node}/subscribed_apps", _subscribed_apps),
        ("POST", f"{node}/subscribed_apps", _subscribe),
        ("DELETE", f"{node}/subscribed_apps", _unsubscribe),
        ("GET", f"{node}/phone_numbers", _phone_numbers),
        ("GET", f"{node}/message_templates", _templates),
        ("POST", f"{node}/message_templates", _create_template),
        ("DELETE", f"{node}/message_templates", _delete_template),
        ("GET", "/_media/{key}", _download),
        ("*", "/{path:.*}", _unknown_path),
    ):
        app.router.add_route(method, path, _graph(handler))


def _graph(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
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
            return _json(body, status=refusal.http)
        sim.log.record({**entry, "outcome": "accepted", "http": response.status})
        return response

    return handle


def _json(body: Any, *, status: int = 200) -> web.Response:
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    return web.Response(body=orjson.dumps(body), status=status, headers=headers)


async def _parameters(request: web.Request) -> dict[str, Any]:
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


def _select(values: dict[str, Any], request: web.Request, default: str) -> dict[str, Any]:
    wanted = _fields(request, default)
    unknown = [name for name in wanted if name not in values]
    if unknown:
        raise GraphError(100, title=f"Tried accessing nonexisting field ({unknown[0]})")
    return {name: values[name] for name in wanted if values[name] is not None}


def _number_values(sim: Simulator, number: Number) -> dict[str, Any]:
    live = number.registered and number.status == "CONNECTED"
    health = "AVAILABLE" if live else "BLOCKED"
    callbacks = {
        "phone_number": number.override_url,
        "whatsapp_business_account": number.account.override_url,
        "application": sim.config.webhook_url,
    }
    return {
        "id": number.phone_number_id,
        "display_phone_number": number.display_phone_number,
        "verified_name": number.verified_name,
        "quality_rating": number.quality,
        "code_verification_status": "VERIFIED" if number.verified else "NOT_VERIFIED",
        "name_status": "APPROVED",
        "new_name_status": "NONE",
        "status": number.status if number.registered else "DISCONNECTED",
        "platform_type": "CLOUD_API" if number.registered else "NOT_APPLICABLE",
        "throughput": {"level": "STANDARD"},
        "account_mode": "LIVE",
        "is_pin_enabled": number.pin is not None,
        "is_on_biz_app": False,
        "is_official_business_account": False,
        "last_onboarded_time": "2026-01-01T00:00:00+0000",
        "whatsapp_business_manager_messaging_limit": "TIER_UNLIMITED",
        "messaging_limit_tier": "TIER_UNLIMITED",
        "webhook_configuration": {k: v for k, v in callbacks.items() if v is not None},
        "health_status": {
            "can_send_message": health,
            "entities": [
                {
                    "entity_type": "PHONE_NUMBER",
                    "id": number.phone_number_id,
                    "can_send_message": health,
                }
            ],
        },
    }


def _account_values(account: Account) -> dict[str, Any]:
    return {
        "id": account.waba_id,
        "name": "Simulated account",
        "currency": "USD",
        "timezone_id": "1",
        "account_review_status": "APPROVED",
        "business_verification_status": "verified",
        "ownership_type": "SELF",
        "status": "ACTIVE",
        "message_template_namespace": f"ns_{account.waba_id}",
        "health_status": {"can_send_message": "AVAILABLE", "entities": []},
    }


async def _get_node(sim: Simulator, request: web.Request) -> web.StreamResponse:
    node = request.match_info["id"]
    media = sim.media.find(node)
    if media is not None:
        return _json(_media_values(sim, media, request))
    account = sim.authorised_account(request, node)
    if account is not None:
        return _json(_select(_account_values(account), request, _ACCOUNT_FIELDS))
    template = sim.templates.find(node)
    if template is not None:
        return _json(template.listed())
    number = sim.authorised_number(request, node)
    return _json(_select(_number_values(sim, number), request, _NUMBER_FIELDS))


async def _post_node(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Change a number: its PIN, or where its webhooks go."""
    number = sim.authorised_number(request, request.match_info["id"])
    given = await _parameters(request)
    if "pin" in given:
        number.pin = _pin_of(given)
    configuration = given.get("webhook_configuration")
    if isinstance(configuration, dict):
        number.override_url = await _override(sim, configuration)
    return _json(_SUCCESS)


async def _delete_node(sim: Simulator, request: web.Request) -> web.StreamResponse:
    node = request.match_info["id"]
    media = sim.media.find(node)
    sim.require_known(bearer_of(request))
    if media is None:
        raise unknown_object(node, request.method)
    _require_owner(media, request)
    sim.media.delete(node)
    return _json(_SUCCESS)


# --- registration ---------------------------------------------------------------------------------


def _pin_of(given: dict[str, Any]) -> str:
    pin = str(given.get("pin", ""))
    if len(pin) != _PIN_DIGITS or not pin.isdecimal():
        raise GraphError(100, "Param pin must be 6 characters long.")
    return pin


def _count_registration(sim: Simulator, number: Number) -> None:
    now_ns = sim.clock.monotonic_ns()
    recent = [t for t in number.registrations_ns if now_ns - t < _REGISTRATION_SPAN_NS]
    if len(recent) >= _MOST_REGISTRATIONS:
        raise GraphError(133016, "Too many register or deregister calls; wait 72 hours")
    number.registrations_ns = [*recent, now_ns]


async def _register(sim: Simulator, request: web.Request) -> web.StreamResponse:
    number = sim.authorised_number(request, request.match_info["id"])
    given = await _parameters(request)
    if given.get("messaging_product") != "whatsapp":
        raise GraphError(100, "The parameter messaging_product is required.")
    pin = _pin_of(given)
    _count_registration(sim, number)
    if not number.verified:
        raise GraphError(133006, "Verify the phone number before registering it")
    if number.pin is not None and not hmac.compare_digest(number.pin, pin):
        raise GraphError(133005, "The PIN is not the one that was set")
    number.pin, number.registered = pin, True
    return _json(_SUCCESS)


async def _deregister(sim: Simulator, request: web.Request) -> web.StreamResponse:
    number = sim.authorised_number(request, request.match_info["id"])
    _count_registration(sim, number)
    if not number.registered:
        raise GraphError(133010, "The phone number is not registered")
    number.registered = False
    return _json(_SUCCESS)


async def _request_code(sim: Simulator, request: web.Request) -> web.StreamResponse:
    number = sim.authorised_number(request, request.match_info["id"])
    given = await _parameters(request)
    if given.get("code_method") not in ("SMS", "VOICE"):
        raise GraphError(100, "Param code_method must be one of {SMS, VOICE}")
    if not given.get("language"):
        raise GraphError(100, "The parameter language is required.")
    if number.verified:
        raise GraphError(136024, "The phone number is verified already")
    return _json(_SUCCESS)


async def _verify_code(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Any six digits are the right code, except 000000."""
    number = sim.authorised_number(request, request.match_info["id"])
    code = str((await _parameters(request)).get("code", "")).replace("-", "")
    if len(code) != _PIN_DIGITS or not code.isdecimal() or code == "000000":
        raise GraphError(136025, "The code is not the one that was sent", title="Verify code error")
    number.verified = True
    return _json(_SUCCESS)


# --- accounts -------------------------------------------------------------------------------------


def _account_of(sim: Simulator, request: web.Request) -> Account:
    account = sim.authorised_account(request, request.match_info["id"])
    if account is None:
        raise unknown_object(request.match_info["id"], request.method)
    return account


async def _override(sim: Simulator, given: dict[str, Any]) -> str | None:
    """The address of an override after Meta's handshake with it; None removes the override."""
    url = given.get("override_callback_uri")
    if not url:
        return None
    if not isinstance(url, str) or len(url) > _MAX_OVERRIDE_CHARACTERS:
        raise GraphError(100, "override_callback_uri must be a URL of at most 200 characters")
    token = type(sim.config.verify_token)(str(given.get("verify_token", "")))
    if not await handshake(url, token):
        raise GraphError(2200, "The callback did not answer the challenge")
    return url


async def _subscribe(sim: Simulator, request: web.Request) -> web.StreamResponse:
    account = _account_of(sim, request)
    account.override_url = await _override(sim, await _parameters(request))
    account.subscribed = True
    return _json(_SUCCESS)


async def _unsubscribe(sim: Simulator, request: web.Request) -> web.StreamResponse:
    account = _account_of(sim, request)
    account.subscribed, account.override_url = False, None
    return _json(_SUCCESS)


async def _subscribed_apps(sim: Simulator, request: web.Request) -> web.StreamResponse:
    account = _account_of(sim, request)
    app: dict[str, Any] = {
        "whatsapp_business_api_data": {
            "id": sim.config.app_id,
            "name": "Simulated app",
            "link": "https://www.facebook.com/games/?app_id=" + sim.config.app_id,
        }
    }
    if account.override_url is not None:
        app["override_callback_uri"] = account.override_url
    return _json({"data": [app] if account.subscribed else []})


async def _phone_numbers(sim: Simulator, request: web.Request) -> web.StreamResponse:
    account = _account_of(sim, request)
    rows = [
        _select(_number_values(sim, number), request, _NUMBER_FIELDS)
        for number in sim.numbers.values()
        if number.account is account
    ]
    return _json({"data": rows, "paging": {"cursors": {"before": "", "after": ""}}})


async def _templates(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """All templates, by name, status and language; pages by a numeric cursor."""
    _account_of(sim, request)
    wanted = {k: request.query[k] for k in ("name", "status", "language") if k in request.query}
    rows = sim.templates.listed(**wanted)
    try:
        limit = max(1, int(request.query.get("limit", "25")))
        start = int(request.query.get("after") or "0")
    except ValueError:
        raise GraphError(100, "limit and after must be numbers") from None
    page = rows[start : start + limit]
    cursors = {"before": str(start), "after": str(start + len(page))}
    paging: dict[str, Any] = {"cursors": cursors}
    if start + limit < len(rows):
        paging["next"] = str(request.url.update_query(after=cursors["after"]))
    return _json({"data": page, "paging": paging if page else {}})


async def _create_template(sim: Simulator, request: web.Request) -> web.StreamResponse:
    _account_of(sim, request)
    given = await _parameters(request)
    components = given.get("components")
    if not isinstance(components, list) or not all(isinstance(c, dict) for c in components):
        raise GraphError(100, "The parameter components is required.")
    template = sim.templates.add(
        str(given.get("name", "")),
        language=str(given.get("language", "")),
        category=str(given.get("category", "")),
        components=components,
    )
    return _json(
        {"id": template.template_id, "status": template.status, "category": template.category}
    )


async def _delete_template(sim: Simulator, request: web.Request) -> web.StreamResponse:
    _account_of(sim, request)
    if not sim.templates.remove(request.query.get("name", "")):
        raise GraphError(100, "Message template was not found")
    return _json(_SUCCESS)


# --- media ----------------------------------------------------------------------------------------


async def _upload(sim: Simulator, request: web.Request) -> web.StreamResponse:
    number = sim.authorised_number(request, request.match_info["id"])
    if request.content_type != "multipart/form-data":
        raise GraphError(100, "The parameter file is required.")
    given: dict[str, str] = {}
    content: bytes | None = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise GraphError(100, "The form is not valid")
        if part.name == "file":
            given.setdefault("type", part.headers.get("Content-Type", ""))
            content = await _read_file(part)
        else:
            given[str(part.name)] = (await part.text())[:256]
    if given.get("messaging_product") != "whatsapp":
        raise GraphError(100, "The parameter messaging_product is required.")
    if content is None:
        raise GraphError(100, "The parameter file is required.")
    mime_type = given["type"]
    limit = MAX_BYTES.get(mime_type.partition(";")[0].strip().lower())
    if limit is None:
        raise GraphError(100, "Param file must be a file with one of the supported types")
    if len(content) > limit:
        raise GraphError(131053, "The file is larger than its type allows")
    media = sim.media.add(content, mime_type=mime_type, phone_number_id=number.phone_number_id)
    return _json({"id": media.media_id})


async def _read_file(part: BodyPartReader) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(64 * 1024):
        content += chunk
        if len(content) > _MAX_MEDIA_BYTES:
            raise GraphError(131053, "The file is larger than any type allows")
    return bytes(content)


def _require_owner(media: Media, request: web.Request) -> None:
    wanted = request.query.get("phone_number_id", media.phone_number_id)
    if wanted != media.phone_number_id:
        raise unknown_object(media.media_id, request.method)


def _media_values(sim: Simulator, media: Media, request: web.Request) -> dict[str, Any]:
    sim.require_known(bearer_of(request))
    _require_owner(media, request)
    return {
        "messaging_product": "whatsapp",
        "url": f"{request.scheme}://{request.host}/_media/{sim.media.link(media)}",
        "mime_type": media.mime_type,
        "sha256": media.sha256,
        "file_size": len(media.content),
        "id": media.media_id,
    }


async def _download(sim: Simulator, request: web.Request) -> web.StreamResponse:
    sim.require_known(bearer_of(request))
    media = sim.media.follow(request.match_info["key"])
    if media is None:
        return web.Response(status=404, text="Not Found")
    return web.Response(body=media.content, headers={"Content-Type": media.mime_type})


# --- the rest -------------------------------------------------------------------------------------


async def _debug_token(sim: Simulator, request: web.Request) -> web.StreamResponse:
    sim.require_known(bearer_of(request))
    inspected = request.query.get("input_token", "")
    if not inspected or not sim.token_is_known(inspected):
        problem = {"code": 190, "message": "Invalid OAuth access token."}
        return _json({"data": {"is_valid": False, "error": problem, "scopes": []}})
    seen = [n for n in sim.numbers.values() if n.opens_with(inspected)]
    wabas = sorted({number.account.waba_id for number in seen})
    return _json(
        {
            "data": {
                "app_id": sim.config.app_id,
                "type": "SYSTEM_USER",
                "application": "Simulated app",
                "data_access_expires_at": 0,
                "expires_at": 0,
                "is_valid": True,
                "scopes": list(_SCOPES),
                "granular_scopes": [{"scope": s, "target_ids": wabas} for s in _SCOPES],
                "user_id": "100000000000002",
            }
        }
    )


async def _unknown_path(_sim: Simulator, request: web.Request) -> web.StreamResponse:
    raise GraphError(2500, title=f"Unknown path components: {request.path}")
