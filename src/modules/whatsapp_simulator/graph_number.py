"""Phone numbers: their fields, PIN, webhook override, and registration."""

import hmac
from typing import Any

from aiohttp import web

from whatsapp_simulator.clock import SECOND_NS
from whatsapp_simulator.graph_call import SUCCESS, json_answer, parameters_of, verified_override
from whatsapp_simulator.graph_errors import GraphError
from whatsapp_simulator.number import Number
from whatsapp_simulator.simulator import Simulator

NUMBER_FIELDS = "id,display_phone_number,verified_name,quality_rating"
_EMPTY_FIELDS = (
    "certificate",
    "conversational_automation",
    "eligibility_for_api_business_global_search",
    "new_certificate",
    "search_visibility",
)
"""Fields that exist and are left out of the answer, as Graph leaves out what is not set."""
_PIN_DIGITS = 6
_MOST_REGISTRATIONS = 10
_REGISTRATION_SPAN_NS = 72 * 3600 * SECOND_NS


def number_values(sim: Simulator, number: Number) -> dict[str, Any]:
    """Every field of a number that can be asked for."""
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
        "is_preverified_number": False,
        "country_code": "US",
        "country_dial_code": "1",
        "quality_score": {"score": number.quality},
        **dict.fromkeys(_EMPTY_FIELDS),
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


async def change_number(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Change a number: its PIN, or where its webhooks go."""
    number = sim.authorised_number(request, request.match_info["id"])
    given = await parameters_of(request)
    if "pin" in given:
        number.pin = _pin_of(given)
    configuration = given.get("webhook_configuration")
    if isinstance(configuration, dict):
        number.override_url = await verified_override(configuration)
    return json_answer(SUCCESS)


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


async def register(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Register the number with its PIN, or with a new one if it has none."""
    number = sim.authorised_number(request, request.match_info["id"])
    given = await parameters_of(request)
    if given.get("messaging_product") != "whatsapp":
        raise GraphError(100, "The parameter messaging_product is required.")
    pin = _pin_of(given)
    _count_registration(sim, number)
    if not number.verified:
        raise GraphError(133006, "Verify the phone number before registering it")
    if number.pin is not None and not hmac.compare_digest(number.pin, pin):
        raise GraphError(133005, "The PIN is not the one that was set")
    number.pin, number.registered = pin, True
    return json_answer(SUCCESS)


async def deregister(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Take the number off the Cloud API; sends are refused until it is registered."""
    number = sim.authorised_number(request, request.match_info["id"])
    _count_registration(sim, number)
    if not number.registered:
        raise GraphError(133010, "The phone number is not registered")
    number.registered = False
    return json_answer(SUCCESS)


async def request_code(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Ask for a verification code; none is sent anywhere."""
    number = sim.authorised_number(request, request.match_info["id"])
    given = await parameters_of(request)
    if given.get("code_method") not in ("SMS", "VOICE"):
        raise GraphError(100, "Param code_method must be one of {SMS, VOICE}")
    if not given.get("language"):
        raise GraphError(100, "The parameter language is required.")
    if number.verified:
        raise GraphError(136024, "The phone number is verified already")
    return json_answer(SUCCESS)


async def verify_code(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Any six digits are the right code, except 000000."""
    number = sim.authorised_number(request, request.match_info["id"])
    code = str((await parameters_of(request)).get("code", "")).replace("-", "")
    if len(code) != _PIN_DIGITS or not code.isdecimal() or code == "000000":
        raise GraphError(136025, "The code is not the one that was sent", title="Verify code error")
    number.verified = True
    return json_answer(SUCCESS)
