"""Whatever stands in a field or a parameter: it is taken or named, and never a fault of ours."""

import json
from dataclasses import asdict

import pytest

from belongings import belongings_of
from described_api import Spelt, operations_of, spelt, with_value
from tellwire.error_reference import error_classes

LARGE = 100_000
TEXTS = {
    "nothing": "",
    "NUL": "\0",
    "NUL inside": "a\0b",
    "half a character": "\ud800",
    "64 bits": str(2**63),
    "more digits than Python reads": "9" * 5000,
    "no number": "NaN",
    "no zone": "2030-01-01T00:00:00",
    "the last moment": "9999-12-31T23:59:59.999999-23:59",
    "the first moment": "0001-01-01T00:00:00+23:59",
    "as long as a cursor": "_" * 22,
    "long": "x" * 20_000,
}
OTHERS = {
    "null": "null",
    "true": "true",
    "a minus": "-1",
    "32 bits": str(2**31),
    "64 bits and more": str(2**63),
    "a googol": str(10**100),
    "more digits than Python reads, as a number": "9" * 5000,
    "infinity": "1e999",
    "not a number": "NaN",
    "an empty list": "[]",
    "an empty object": "{}",
    "odd names": '{"\\u0000": 1, "\\ud800": 2, "": 3, "a.b[0]": {"\\ud800": 1}}',
    "a deep nest": "[" * 900 + "]" * 900,
    "a deep nest of objects": '{"a":' * 900 + "1" + "}" * 900,
}
HEAVY = {
    "many numbers": json.dumps([0] * LARGE),
    "many texts": json.dumps(["a"] * LARGE),
    "an abyss": "[" * LARGE,
}
VALUES = {name: json.dumps(text) for name, text in TEXTS.items()} | OTHERS


@pytest.fixture(scope="module")
def codes():
    return {error.code: error.status for error in error_classes()}


@pytest.fixture
async def values(world, client, ana):
    """What stands in the other places: all of it hers, so that every request reaches its rows."""
    hers = asdict(await belongings_of(world, client, ana))
    numbers = {"graph_version": "v23.0", "major": "23", "minor": "0", "app_id": "1"}
    message = {"to": "+4915550000001", "text": {"body": "Hello"}, "access_token": "EAAGx"}
    return {name: str(value) for name, value in hers.items()} | numbers | message


@pytest.fixture
def judged(client, codes):
    """Send it; it is answered as described, and a refusal is a document that names the field."""

    async def judged(operation, url, field, **given):
        answer = await client.request(operation.method, url, **given)
        status, where = answer.status_code, (operation.method, operation.path, field)
        assert status in operation.statuses | {404}, where
        # Meta cannot be asked here, by a channel that everything is right about.
        assert status < 500 or answer.json().get("code") == "meta_unreachable", where
        if status < 400 or operation.path.startswith("/{graph") or operation.method == "HEAD":
            return answer
        if operation.path.startswith("/v{"):
            assert answer.json()["error"]["code"], where
            return answer
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json", where
        assert codes[problem["code"]] == problem["status"] == status, where
        assert status != 422 or problem.get("field"), (where, problem)
        return answer

    return judged


async def test_no_parameter_is_too_odd_to_be_answered(client, ana, values, judged) -> None:
    operations = operations_of((await client.get("/openapi.json")).json())
    assert len(operations) > 40

    for operation in operations:
        body = {} if operation.schema is None else {"json": operation.body(values)}
        url = operation.url(values)
        for text in TEXTS.values():
            for name in operation.parameters("path"):
                if text:
                    odd = operation.url(values | {name: text})
                    await judged(operation, odd, name, headers=ana.headers, **body)
            for name in operation.parameters("query"):
                odd = {name: text.encode("utf-8", "surrogatepass")}
                await judged(operation, url, name, headers=ana.headers, params=odd, **body)
            for name in operation.parameters("header"):
                headers = ana.headers | {name: text.encode("utf-8", "surrogatepass")}
                await judged(operation, url, name, headers=headers, **body)


async def test_no_field_of_a_body_is_too_odd_to_be_answered(client, ana, values, judged) -> None:
    operations = operations_of((await client.get("/openapi.json")).json())
    headers = ana.headers | {"Content-Type": "application/json"}

    places = 0
    for operation in operations:
        least = operation.body(values)
        for place in operation.places():
            places += 1
            odd = VALUES | (HEAVY if len(place) < 2 else {})
            for value in odd.values():
                content = spelt(with_value(least, place, Spelt(value)))
                await judged(
                    operation, operation.url(values), place, headers=headers, content=content
                )
    assert places > 80
