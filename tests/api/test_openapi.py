"""The API does what its own description says, for whatever callers may think of."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from whatsapp.domain.value_objects import InboundDetails
from whatsapp.entrypoints.http.conversation_shapes import ThreadMessageResponse

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def aim(body, customer):
    """Let invented messages go to a channel that exists, so that they reach the database."""
    entries = body.get("messages", [body]) if isinstance(body, dict) else []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("channel_id"), str):
            entry["channel_id"] = str(customer.channel_id)
            if isinstance(entry.get("to"), str):
                entry["to"] = "+4915550000001"


@pytest.mark.parametrize("mode", GenerationMode)
def test_no_request_breaks_the_api_or_its_own_description(live_url, ana, mode) -> None:
    schema = schemathesis.openapi.from_url(f"{live_url}/openapi.json")
    # A stream has no end that could be waited for; tests/api/test_events.py reads it.
    schema = schema.exclude(path="/v1/events")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 10

    for operation in operations:

        @given(operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=10,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def judge(case):
            aim(case.body, ana)
            case.call_and_validate(headers=ana.headers, checks=CHECKS)

        try:
            judge()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "nothing valid could be made"


def test_every_operation_describes_itself_and_its_problems(live_url) -> None:
    document = httpx.get(f"{live_url}/openapi.json").json()

    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            if path.startswith(("/v1/", "/webhooks/")):
                for status, answer in operation["responses"].items():
                    if int(status) >= 400:
                        assert list(answer["content"]) == ["application/problem+json"], path


def test_what_customers_write_is_described_part_by_part(live_url) -> None:
    document = httpx.get(f"{live_url}/openapi.json").json()
    schemas = document["components"]["schemas"]
    details = schemas["InboundDetailsResponse"]

    assert set(details["properties"]) == set(InboundDetails.__slots__)
    assert not details.get("required")
    for name in ("ContactCard", "CardPhone", "CallPermission", "ProductReference", "Referral"):
        assert schemas[name]["description"], name
        assert schemas[name]["properties"], name
    for example in schemas["ThreadMessageResponse"]["examples"]:
        # The document leaves out what is null.
        whole = dict.fromkeys(ThreadMessageResponse.model_fields) | example
        shown = ThreadMessageResponse.model_validate(whole)
        assert shown.model_dump(mode="json", exclude_none=True) == example


def test_what_is_sent_is_shown_by_example(live_url) -> None:
    document = httpx.get(f"{live_url}/openapi.json").json()
    examples = document["components"]["schemas"]["SendMessageRequest"]["examples"]

    assert {example["type"] for example in examples} == {"text", "template"}
