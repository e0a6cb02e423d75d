import json

import pytest

from shared.kernel.secret import Secret
from whatsapp_simulator.number import Account, Number
from whatsapp_simulator.webhooks import Update, encode, envelope, sign

SECRET = Secret("test_app_secret")


def _number(phone_number_id, account):
    return Number(
        phone_number_id,
        display_phone_number="+1 555-0100",
        account=account,
        access_token=None,
        messages_per_second=80,
        verified_name="Name",
    )


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (
            b'{"object":"whatsapp_business_account","entry":[]}',
            "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756",
        ),
        (
            '{"a":"é"}'.encode(),
            "b1da91d17c8e6b70d338244a5ba4bd25d4b70ac950812f5c91dee574d84a1180",
        ),
        (
            b'{"a":"\\u00e9"}',
            "4355f1d1bf75cf85000ee9646587c547d6b5618b0b655e791bf4495ff655c463",
        ),
    ],
)
def test_the_signature_covers_exactly_the_bytes(body, digest):
    assert sign(SECRET, body) == f"sha256={digest}"


def test_everything_beyond_ascii_is_escaped_in_lower_case():
    assert encode({"a": "é\N{GRINNING FACE}"}) == b'{"a":"\\u00e9\\ud83d\\ude00"}'


def test_an_envelope_groups_by_account_then_by_number_and_kind():
    first, second = Account("1"), Account("2")
    a, b, c = _number("10", first), _number("11", first), _number("20", second)
    updates = [
        Update(a, "statuses", {"id": "s1"}, {"wa_id": "1"}),
        Update(c, "statuses", {"id": "s2"}),
        Update(a, "messages", {"id": "m1"}, {"wa_id": "1"}),
        Update(b, "statuses", {"id": "s3"}),
        Update(a, "statuses", {"id": "s4"}, {"wa_id": "1"}),
        Update(c, "value", {"event": "X"}, field="account_update"),
    ]

    payload = json.loads(encode(envelope(updates)))

    assert payload["object"] == "whatsapp_business_account"
    assert [entry["id"] for entry in payload["entry"]] == ["1", "2"]
    statuses, messages, other = payload["entry"][0]["changes"]
    assert [s["id"] for s in statuses["value"]["statuses"]] == ["s1", "s4"]
    assert statuses["value"]["metadata"] == {
        "display_phone_number": "15550100",
        "phone_number_id": "10",
    }
    assert "messages" not in statuses["value"]
    assert statuses["value"]["contacts"] == [{"wa_id": "1"}]
    assert messages["value"]["contacts"] == [{"wa_id": "1"}]
    assert other["value"]["metadata"]["phone_number_id"] == "11"
    assert payload["entry"][1]["changes"][1] == {"field": "account_update", "value": {"event": "X"}}
