"""The rest of the Graph API that a sender needs; this module is the table of its calls."""

from aiohttp import web

from whatsapp_simulator import graph_account, graph_media, graph_number
from whatsapp_simulator.graph_call import SUCCESS, graph_call, json_answer, select
from whatsapp_simulator.graph_errors import GraphError, unknown_object
from whatsapp_simulator.simulator import Simulator, bearer_of

_VERSION = r"/{version:v\d+\.\d+}"
_SCOPES = ("whatsapp_business_management", "whatsapp_business_messaging")


def add_routes(app: web.Application) -> None:
    """Add every route but the messages endpoint."""
    node = _VERSION + "/{id}"
    for method, path, handler in (
        ("GET", f"{_VERSION}/debug_token", _debug_token),
        ("GET", node, _get_node),
        ("POST", node, graph_number.change_number),
        ("DELETE", node, _delete_node),
        ("POST", f"{node}/register", graph_number.register),
        ("POST", f"{node}/deregister", graph_number.deregister),
        ("POST", f"{node}/request_code", graph_number.request_code),
        ("POST", f"{node}/verify_code", graph_number.verify_code),
        ("POST", f"{node}/media", graph_media.upload),
        ("GET", f"{node}/subscribed_apps", graph_account.subscribed_apps),
        ("POST", f"{node}/subscribed_apps", graph_account.subscribe),
        ("DELETE", f"{node}/subscribed_apps", graph_account.unsubscribe),
        ("GET", f"{node}/phone_numbers", graph_account.phone_numbers),
        ("GET", f"{node}/message_templates", graph_account.templates),
        ("POST", f"{node}/message_templates", graph_account.create_template),
        ("DELETE", f"{node}/message_templates", graph_account.delete_template),
        ("GET", "/_media/{key}", graph_media.download),
        ("*", "/{path:.*}", _unknown_path),
    ):
        app.router.add_route(method, path, graph_call(handler))


async def _get_node(sim: Simulator, request: web.Request) -> web.StreamResponse:
    node = request.match_info["id"]
    media = sim.media.find(node)
    if media is not None:
        return json_answer(graph_media.media_values(sim, media, request))
    account = sim.authorised_account(request, node)
    if account is not None:
        return json_answer(
            select(graph_account.account_values(account), request, graph_account.ACCOUNT_FIELDS)
        )
    template = sim.templates.find(node)
    if template is not None:
        return json_answer(template.listed())
    number = sim.authorised_number(request, node)
    return json_answer(
        select(graph_number.number_values(sim, number), request, graph_number.NUMBER_FIELDS)
    )


async def _delete_node(sim: Simulator, request: web.Request) -> web.StreamResponse:
    node = request.match_info["id"]
    media = sim.media.find(node)
    sim.require_known(bearer_of(request))
    if media is None:
        raise unknown_object(node, request.method)
    graph_media.require_owner(media, request)
    sim.media.delete(node)
    return json_answer(SUCCESS)


async def _debug_token(sim: Simulator, request: web.Request) -> web.StreamResponse:
    sim.require_known(bearer_of(request))
    inspected = request.query.get("input_token", "")
    if not inspected or not sim.token_is_known(inspected):
        problem = {"code": 190, "message": "Invalid OAuth access token."}
        return json_answer({"data": {"is_valid": False, "error": problem, "scopes": []}})
    seen = {n.account.waba_id for n in sim.numbers.values() if n.opens_with(inspected)}
    wabas = sorted(sim.accounts if sim.config.open_numbers else seen)
    return json_answer(
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
