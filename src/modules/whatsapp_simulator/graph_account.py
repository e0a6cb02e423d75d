"""Accounts (WABAs): their subscription, numbers and templates."""

from typing import Any

from aiohttp import web

from whatsapp_simulator.graph_call import (
    SUCCESS,
    json_answer,
    parameters_of,
    select,
    verified_override,
)
from whatsapp_simulator.graph_errors import GraphError, unknown_object
from whatsapp_simulator.graph_number import NUMBER_FIELDS, number_values
from whatsapp_simulator.number import Account
from whatsapp_simulator.simulator import Simulator

ACCOUNT_FIELDS = "id,name,currency,timezone_id,message_template_namespace"
_TEMPLATE_FILTERS = ("name", "status", "language", "category")
_MOST_TEMPLATES = 6000
_EMPTY_FIELDS = (
    "country",
    "disable_marketing_messages_on_cloud_api",
    "is_enabled_for_insights",
    "marketing_messages_lite_api_status",
    "marketing_messages_onboarding_status",
    "on_behalf_of_business_info",
    "owner_business_info",
    "subscribed_apps",
)
"""Fields that exist and are left out of the answer, as Graph leaves out what is not set."""


def account_values(account: Account) -> dict[str, Any]:
    """Every field of an account that can be asked for."""
    return {
        "id": account.waba_id,
        "name": "Simulated account",
        "currency": "USD",
        "timezone_id": "1",
        "account_review_status": "APPROVED",
        "business_verification_status": "verified",
        "ownership_type": "SELF",
        "status": "ACTIVE",
        **dict.fromkeys(_EMPTY_FIELDS),
        "message_template_namespace": f"ns_{account.waba_id}",
        "health_status": {"can_send_message": "AVAILABLE", "entities": []},
    }


def _account_of(sim: Simulator, request: web.Request) -> Account:
    waba_id = request.match_info["id"]
    sim.open_account(waba_id)
    account = sim.authorised_account(request, waba_id)
    if account is None:
        raise unknown_object(waba_id, request.method)
    return account


async def subscribe(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Subscribe the app; an override of the callback is verified first."""
    account = _account_of(sim, request)
    account.override_url = await verified_override(await parameters_of(request))
    account.subscribed = True
    return json_answer(SUCCESS)


async def unsubscribe(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Stop all webhooks of the account."""
    account = _account_of(sim, request)
    account.subscribed, account.override_url = False, None
    return json_answer(SUCCESS)


async def subscribed_apps(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """The app if it is subscribed, with its override."""
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
    return json_answer({"data": [app] if account.subscribed else []})


async def phone_numbers(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """The numbers of the account."""
    account = _account_of(sim, request)
    rows = [
        select(number_values(sim, number), request, NUMBER_FIELDS)
        for number in sim.numbers.values()
        if number.account is account
    ]
    return json_answer({"data": rows, "paging": {"cursors": {"before": "", "after": ""}}})


async def templates(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """All templates, by name, status, language and category; pages by a numeric cursor."""
    _account_of(sim, request)
    wanted = {k: request.query[k].split(",") for k in _TEMPLATE_FILTERS if k in request.query}
    rows = sim.templates.listed(wanted)
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
    answer: dict[str, Any] = {"data": page, "paging": paging if page else {}}
    if "summary" in request.query:
        answer["summary"] = {
            "total_count": len(rows),
            "message_template_count": len(sim.templates.listed({})),
            "message_template_limit": _MOST_TEMPLATES,
            "are_translations_complete": True,
        }
    return json_answer(answer)


async def create_template(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Add a template; it is approved at once."""
    _account_of(sim, request)
    given = await parameters_of(request)
    components = given.get("components")
    if not isinstance(components, list) or not all(isinstance(c, dict) for c in components):
        raise GraphError(100, "The parameter components is required.")
    template = sim.templates.add(
        str(given.get("name", "")),
        language=str(given.get("language", "")),
        category=str(given.get("category", "")),
        components=components,
    )
    return json_answer(
        {"id": template.template_id, "status": template.status, "category": template.category}
    )


async def delete_template(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Remove a template in all its languages."""
    _account_of(sim, request)
    if not sim.templates.remove(request.query.get("name", "")):
        raise GraphError(100, "Message template was not found")
    return json_answer(SUCCESS)
