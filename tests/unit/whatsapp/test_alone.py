"""What an element is alone in a webhook of its own is what it was among others."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.domain.webhook import TroubleReported
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook

PAYLOADS = Path(__file__).parents[2] / "contract" / "payloads"
FILES = sorted(PAYLOADS.glob("*/*.json"))
WEBHOOKS = [path for path in FILES if b'"whatsapp_business_account"' in path.read_bytes()]


def ensure_alone(raw: bytes) -> None:
    """Each element comes back from its own body, and nothing else does."""
    batch = parse_webhook(raw)
    bodies = batch.alone()
    assert len(bodies) == len(batch.elements)
    for element, body in zip(batch.elements, bodies, strict=True):
        assert body is not None
        (found,) = parse_webhook(body).elements
        if isinstance(element, TroubleReported):
            # What else the change says is not the trouble's.
            found = dataclasses.replace(found, raw=element.raw)
        assert found == element


def changes_of(path: Path) -> list:
    return [one for entry in json.loads(path.read_bytes())["entry"] for one in entry["changes"]]


@pytest.mark.parametrize("path", WEBHOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_known_payload(path: Path) -> None:
    ensure_alone(path.read_bytes())


def test_all_known_payloads_in_one_body() -> None:
    entry = {
        "id": "102290129340398",
        "time": 1795420800,
        "changes": [change for path in WEBHOOKS for change in changes_of(path)],
    }
    ensure_alone(json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode())


PEOPLE = ("16505551234", "16505555678", "US.13491208655302741918")
JUNK = st.sampled_from([None, 7, "text", [], {}, [1], {"id": 1}])
ITEMS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["wamid.1", "wamid.2", ""]) | JUNK,
            "from": st.sampled_from(PEOPLE) | JUNK,
            "timestamp": st.just("1795420800") | JUNK,
            "type": st.just("text") | JUNK,
            "status": st.sampled_from(["sent", "read", "odd"]) | JUNK,
            "text": st.just({"body": "Hi"}),
        },
    )
    | JUNK,
    max_size=4,
)
CONTACTS = st.lists(
    st.fixed_dictionaries(
        {"profile": st.builds(lambda name: {"name": name}, st.sampled_from("ABC"))},
        optional={"wa_id": st.sampled_from(PEOPLE) | JUNK, "user_id": st.sampled_from(PEOPLE)},
    )
    | JUNK,
    max_size=4,
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.sampled_from([{"phone_number_id": "1001"}, {"phone_number_id": "1002"}])
        | JUNK,
        "contacts": CONTACTS | JUNK,
        "statuses": ITEMS | JUNK,
        "messages": ITEMS | JUNK,
        "errors": st.just([{"code": 130429, "title": "Rate limit hit"}]) | JUNK,
    },
)
CHANGES = st.lists(
    st.fixed_dictionaries(
        {}, optional={"field": st.sampled_from(["messages", "odd"]) | JUNK, "value": VALUES | JUNK}
    )
    | JUNK,
    max_size=3,
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.just("waba-1") | JUNK,
            "time": st.just(1795420800) | JUNK,
            "changes": CHANGES | JUNK,
        },
    )
    | JUNK,
    max_size=3,
)


@given(
    entry=ENTRIES | JUNK,
    kind=st.sampled_from(["whatsapp_business_account"] * 9 + ["page", None]),
)
def test_whatever_a_body_holds(entry: object, kind: object) -> None:
    ensure_alone(json.dumps({"object": kind, "entry": entry}).encode())


def test_what_is_nested_without_end_has_no_body_and_harms_nobody() -> None:
    deep = json.loads("[" * 300 + "]" * 300)
    changes = [{"field": "odd", "value": deep}, {"field": "odd", "value": {"a": 1}}]
    document = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}

    bodies = parse_webhook(json.dumps(document).encode()).alone()

    assert bodies[0] is None
    assert bodies[1] is not None
    assert parse_webhook(bodies[1]).elements[0].raw == {"a": 1}


def test_what_is_no_json_is_its_own_body() -> None:
    assert parse_webhook(b"\xff").alone() == [b"\xff"]
