"""Phone numbers, user ids, recipients, tokens, keys and lanes."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel.errors import TellwireError
from whatsapp.domain.value_objects import (
    AccessToken,
    IdempotencyKey,
    InvalidAccessToken,
    InvalidIdempotencyKey,
    InvalidPhoneNumber,
    InvalidRecipient,
    InvalidUserId,
    PhoneNumber,
    Priority,
    UserId,
    parse_recipient,
)

ANA = PhoneNumber("+4915123456789")
ACCOUNT = UUID("0190a6f2-0000-7000-8000-000000000001")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CANARY = "4915198765432"


@pytest.mark.parametrize(
    "written",
    [
        "+4915123456789",
        "+49 151 2345-6789",
        "+49 (151) 2345 6789",
        " +49-151-23456789 ",
        "(+49) 151\u00a02345\u20116789",
    ],
)
def test_a_number_is_read_as_people_write_it(written) -> None:
    assert PhoneNumber.parse(written) == ANA


@pytest.mark.parametrize(
    "written",
    [
        "",
        "+",
        "4915123456789",  # without the plus Meta may prepend the sender's country
        "015123456789",
        "004915123456789",
        "+49 (0)151 23456789",  # the zero would be dialled
        "+015123456789",
        "+123456",
        "+1234567890123456",
        "+49151234x6789",
        "+49/151/23456789",
        "++4915123456789",
        "+49+15123456789",
        "+4915123456789\n",
        "+٤٩١٥١٢٣٤٥٦٧٨٩",
        "+" + " " * 50 + "4915123456789",
    ],
)
def test_what_could_reach_a_stranger_is_refused(written) -> None:
    with pytest.raises(InvalidPhoneNumber):
        PhoneNumber.parse(written)


@pytest.mark.parametrize("e164", ["+1234567", "+123456789012345"])
def test_seven_to_fifteen_digits_are_a_number(e164) -> None:
    assert PhoneNumber(e164).wa_id == e164[1:]


@pytest.mark.parametrize(
    "e164", ["1234567", "+123456", "+1234567890123456", "+0234567", "+123 4567"]
)
def test_the_constructor_takes_e164_only(e164) -> None:
    with pytest.raises(InvalidPhoneNumber):
        PhoneNumber(e164)


@given(st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True))
def test_a_wa_id_and_its_number_are_each_others_inverse(digits) -> None:
    assert PhoneNumber.from_wa_id(digits).wa_id == digits


@pytest.mark.parametrize(
    "digits", ["", "+4915123456789", "123456", "0123456789", "1" * 16, "٤٩١٥١٢٣٤"]
)
def test_only_complete_digits_are_a_wa_id(digits) -> None:
    with pytest.raises(InvalidPhoneNumber):
        PhoneNumber.from_wa_id(digits)


@pytest.mark.parametrize("value", ["DE.a", "US.ENT.Ab9", "BR." + "x" * 128, "US.ENT." + "9" * 128])
def test_a_user_id_is_kept_as_it_is(value) -> None:
    assert UserId(value).value == value
    assert UserId.looks_like(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "DE.",
        "de.abc",
        "DEU.abc",
        "DE.a-b",
        "DE.ENT.",
        "DE.a.b",
        "DE." + "x" * 129,
        "DE.ä",
        "DE.a\n",
    ],
)
def test_another_shape_is_no_user_id(value) -> None:
    assert not UserId.looks_like(value)
    with pytest.raises(InvalidUserId):
        UserId(value)


@pytest.mark.parametrize(
    ("given_fields", "expected"),
    [
        ({"to": "+49 151 23456789"}, ANA),
        ({"to": "+4915123456789", "recipient": "DE.abc"}, ANA),
        ({"recipient": "DE.abc"}, UserId("DE.abc")),
        ({"to": "DE.abc"}, UserId("DE.abc")),
        ({"to": "4915123456789", "bare_digits": True}, ANA),
        ({"to": "+49 151 23456789", "bare_digits": True}, ANA),
    ],
)
def test_a_recipient_is_found_in_metas_two_fields(given_fields, expected) -> None:
    assert parse_recipient(**given_fields) == expected


@pytest.mark.parametrize(
    ("given_fields", "error", "field"),
    [
        ({}, InvalidRecipient, "to"),
        ({"to": 4915123456789}, InvalidRecipient, "to"),
        ({"to": ""}, InvalidPhoneNumber, "to"),
        ({"to": "4915123456789"}, InvalidPhoneNumber, "to"),
        ({"to": "0151 23456789", "bare_digits": True}, InvalidPhoneNumber, "to"),
        ({"to": "(415) 555-0100", "bare_digits": True}, InvalidPhoneNumber, "to"),
        ({"to": "", "recipient": "DE.abc"}, InvalidPhoneNumber, "to"),
        ({"recipient": "+4915123456789"}, InvalidUserId, "recipient"),
        ({"recipient": ["DE.abc"]}, InvalidRecipient, "recipient"),
    ],
)
def test_a_wrong_recipient_is_refused_with_its_field(given_fields, error, field) -> None:
    with pytest.raises(error) as refused:
        parse_recipient(**given_fields)

    assert refused.value.field == field
    assert refused.value.status == 422


@pytest.mark.parametrize("text", ["E", "EAAG" + "x" * 200, "x" * 2048, "a|b.c-d_e~"])
def test_a_token_of_visible_ascii_is_taken(text) -> None:
    assert AccessToken(text).reveal() == text


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "\ta", "a\x00", "a\x7f", "ä", "x" * 2049])
def test_what_does_not_fit_a_header_is_no_token(text) -> None:
    with pytest.raises(InvalidAccessToken):
        AccessToken(text)


@pytest.mark.parametrize("value", ["a", "x" * 255, "!~", "order-4711/2026"])
def test_an_idempotency_key_is_visible_ascii(value) -> None:
    assert IdempotencyKey(value).value == value


@pytest.mark.parametrize("value", ["", "x" * 256, "a b", "a\n", "ä", "a\x00"])
def test_another_text_is_no_idempotency_key(value) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        IdempotencyKey(value)


def _derive(**changed):
    given_inputs = {
        "account_id": ACCOUNT,
        "to_phone": ANA,
        "content": '{"a":1}',
        "timestamp": NOON,
    }
    return IdempotencyKey.derive(**(given_inputs | changed))


def test_a_derived_key_is_the_digest_the_seed_describes() -> None:
    text = f'{ACCOUNT}:+4915123456789:{{"a":1}}:1795435200'

    assert _derive().value == hashlib.sha256(text.encode()).hexdigest()


def test_a_derived_key_counts_whole_seconds_in_any_time_zone() -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert _derive(timestamp=elsewhere + timedelta(microseconds=999_999)) == _derive()
    assert _derive(timestamp=NOON + timedelta(seconds=1)) != _derive()


@pytest.mark.parametrize(
    "changed",
    [
        {"account_id": "other"},
        {"to_phone": UserId("DE.abc")},
        {"content": '{"a":2}'},
        {"content": "\ud800"},
        {"timestamp": datetime(1960, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_derived_key_depends_on_every_part(changed) -> None:
    assert _derive(**changed) != _derive()


@pytest.mark.parametrize(
    "changed", [{"account_id": ""}, {"account_id": "a:b"}, {"timestamp": NOON.replace(tzinfo=None)}]
)
def test_what_would_make_two_inputs_one_key_is_refused(changed) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        _derive(**changed)


def test_lanes_are_numbered_by_urgency() -> None:
    assert [(str(p), p.lane) for p in Priority] == [("high", 0), ("normal", 1), ("bulk", 2)]
    assert [Priority.from_lane(lane) for lane in (0, 1, 2)] == list(Priority)
    with pytest.raises(ValueError, match="not a valid"):
        Priority.from_lane(3)


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{:>40}".format, lambda v: f"{[v]!s}"])
@pytest.mark.parametrize(
    "value",
    [
        PhoneNumber("+" + CANARY),
        UserId("DE." + CANARY),
        IdempotencyKey(CANARY),
        AccessToken(CANARY),
    ],
    ids=lambda v: type(v).__name__,
)
def test_no_value_shows_itself(value, show) -> None:
    assert CANARY not in show(value)


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: PhoneNumber(CANARY),
        lambda: PhoneNumber.parse(CANARY),
        lambda: PhoneNumber.parse(f"+{CANARY}{CANARY}"),
        lambda: PhoneNumber.from_wa_id("+" + CANARY),
        lambda: UserId(CANARY),
        lambda: AccessToken(CANARY + "\n"),
        lambda: AccessToken(CANARY * 300),
        lambda: IdempotencyKey(CANARY + " "),
        lambda: parse_recipient(to=CANARY),
        lambda: parse_recipient(to=int(CANARY)),
        lambda: parse_recipient(recipient=CANARY),
        lambda: _derive(account_id=CANARY + ":"),
    ],
)
def test_no_refusal_repeats_what_was_given(refuse) -> None:
    with pytest.raises(TellwireError) as refused:
        refuse()

    error = refused.value
    shown = json.dumps([str(error), repr(error), error.detail, error.field, error.args])
    assert CANARY not in shown
    assert error.__cause__ is None
