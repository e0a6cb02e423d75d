import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.domain.outcome import (
    Accepted,
    Deferred,
    FailureReason,
    RejectAction,
    Rejected,
    Throttled,
    ThrottleScope,
    Unknown,
)
from whatsapp.infrastructure.cloud_api.fields import failure
from whatsapp.infrastructure.cloud_api.outcomes import (
    outcome_of_response,
    outcome_of_status_errors,
    refusal_of_response,
)

WAMID = "wamid.HBgLMTY0NjcwNDM1OTUVAgARGBI1RjQyNUE3NEYxMzAzMzQ5MkEA"


def _accepted(**message):
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": "+16505551234", "wa_id": "16505551234"}],
        "messages": [{"id": WAMID, **message}],
    }


def _error(code, **more):
    return {
        "error": {
            "message": f"(#{code}) Something",
            "type": "OAuthException",
            "code": code,
            "error_data": {"messaging_product": "whatsapp", "details": "What was wrong"},
            "fbtrace_id": "A1",
            **more,
        }
    }


def _outcome(status, document, headers=None):
    return outcome_of_response(status, json.dumps(document).encode(), headers)


def test_a_wamid_is_acceptance():
    assert _outcome(200, _accepted()) == Accepted(WAMID, wa_id="16505551234")


def test_a_recipient_may_come_as_a_user_id_alone_or_not_at_all():
    by_user = _accepted() | {"contacts": [{"input": "US.1", "user_id": "US.1"}]}

    assert _outcome(200, by_user) == Accepted(WAMID, user_id="US.1")
    assert _outcome(200, {"messages": [{"id": WAMID}]}) == Accepted(WAMID)


@pytest.mark.parametrize(
    ("message_status", "held"),
    [("accepted", False), ("held_for_quality_assessment", True), ("paused", True), (7, False)],
)
def test_a_held_template_is_accepted_and_marked(message_status, held):
    assert _outcome(200, _accepted(message_status=message_status)).held is held


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"<html>",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"messages":[]}',
        b'{"messages":[{}]}',
        b'{"messages":[{"id":""}]}',
        b'{"messages":[{"id":7}]}',
        b'{"messages":{"id":"wamid.X"}}',
        b'{"messages":["wamid.X"]}',
        b'{"error":"no object"}',
        b'{"error":{"message":"no code"}}',
        b'{"messages":[{"id":"' + b"w" * 600 + b'"}]}',
        b"[" * 5000,
    ],
)
@pytest.mark.parametrize("status", [200, 201])
def test_a_success_without_a_wamid_may_have_been_sent(status, body):
    assert isinstance(outcome_of_response(status, body), Unknown)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(
    ("code", "kind"),
    [(130429, Throttled), (131056, Throttled), (131016, Deferred), (131026, Rejected)],
)
def test_the_code_decides_whatever_the_http_status(status, code, kind):
    outcome = _outcome(status, _error(code))

    assert isinstance(outcome, kind)
    assert outcome.failure == FailureReason(code, f"(#{code}) Something", "What was wrong")


@pytest.mark.parametrize(
    ("code", "action"),
    [
        (190, RejectAction.PAUSE_CHANNEL),
        (3, RejectAction.PAUSE_CHANNEL),
        (131045, RejectAction.PAUSE_CHANNEL),
        (131050, RejectAction.FAIL_RECIPIENT),
        (132015, RejectAction.FAIL_TEMPLATE),
        (131008, RejectAction.FAIL),
        (999999, RejectAction.FAIL),
    ],
)
def test_a_refusal_says_what_to_do_even_with_an_http_500(code, action):
    assert _outcome(500, _error(code)).action is action


def test_an_unknown_code_that_meta_calls_transient_is_tried_again():
    assert isinstance(_outcome(500, _error(987654, is_transient=True)), Deferred)
    assert isinstance(_outcome(500, _error(987654)), Rejected)


def test_a_missing_number_pauses_the_channel_by_its_subcode():
    assert _outcome(400, _error(100)).action is RejectAction.FAIL
    assert _outcome(400, _error(100, error_subcode=33)).action is RejectAction.PAUSE_CHANNEL


def test_a_code_written_as_text_counts():
    assert isinstance(_outcome(400, _error("130429")), Throttled)


def test_withheld_marketing_may_be_tried_by_hand_after_a_day():
    assert _outcome(400, _error(131049)).retry_after == timedelta(hours=24)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 408])
@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b'{"error":{"code":null}}'])
def test_a_server_error_without_a_code_may_have_been_sent(status, body):
    assert isinstance(outcome_of_response(status, body), Unknown)


def test_a_bare_429_throttles_the_number_as_long_as_the_header_says():
    outcome = outcome_of_response(429, b"slow down", {"Retry-After": "7"})

    assert isinstance(outcome, Throttled)
    assert outcome.code is None
    assert outcome.scope is ThrottleScope.NUMBER
    assert outcome.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", timedelta()),
        (" 30 ", timedelta(seconds=30)),
        ("86401", timedelta(hours=24)),
        ("9" * 10, timedelta(hours=24)),
        ("9" * 400, None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_a_retry_after_is_bounded_and_never_trusted(header, expected):
    outcome = _outcome(400, _error(130429), {"Retry-After": header})

    assert outcome.retry_after == expected


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405, 407])
def test_an_answer_that_is_not_metas_pauses_the_channel_and_keeps_the_message(status):
    outcome = outcome_of_response(status, b"<html>Sign in</html>")

    assert isinstance(outcome, Rejected)
    assert outcome.action is RejectAction.PAUSE_CHANNEL


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_another_4xx_without_a_code_fails_the_message(status):
    outcome = outcome_of_response(status, b"no")

    assert isinstance(outcome, Rejected)
    assert outcome.action is RejectAction.FAIL
    assert outcome.code is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 1, "title": "T", "error_data": {"details": "D"}}, (1, "T", "D")),
        ({"code": 1, "title": "T", "error_data": "plain"}, (1, "T", "plain")),
        ({"code": 1, "title": "T", "error_user_msg": "U"}, (1, "T", "U")),
        ({"code": 1, "title": "T", "message": "M"}, (1, "T", "M")),
        ({"code": 1, "message": "M"}, (1, "M", "")),
        ({"code": 131047}, (131047, "More than 24 hours since the customer last wrote", "")),
        ({"code": True, "title": "T"}, (None, "T", "")),
        ({"code": 2**40, "title": 5}, (None, "A code that Tellwire does not know", "")),
        ("a text", (None, "Failed without a reason", "")),
        (None, (None, "Failed without a reason", "")),
    ],
)
def test_a_reason_is_read_from_any_shape_of_error(error, expected):
    reason = failure(error)

    assert (reason.code, reason.title, reason.details) == expected


def test_a_number_that_meta_quotes_is_not_kept():
    outcome = _outcome(400, _error(131030, error_data={"details": "5511987654321 is not allowed"}))

    assert "5511987654321" not in repr(outcome)
    assert outcome.details == "[removed] is not allowed"


def _reasons(*codes):
    return [FailureReason(code, "t", "d") for code in codes]


@pytest.mark.parametrize(
    ("codes", "kind", "code"),
    [
        ([131047], Rejected, 131047),
        ([130429], Throttled, 130429),
        ([131000], Deferred, 131000),
        ([131000, 131042], Rejected, 131042),
        ([131000, 130429], Throttled, 130429),
        ([130429, 131026], Rejected, 131026),
        ([131026, 131042], Rejected, 131042),
        ([None], Rejected, None),
        ([], Rejected, None),
    ],
)
def test_the_gravest_error_of_a_failed_status_decides(codes, kind, code):
    refusal = outcome_of_status_errors(_reasons(*codes))

    assert isinstance(refusal, kind)
    assert refusal.code == code


def test_a_call_that_may_be_repeated_is_deferred_by_a_bare_server_error():
    assert isinstance(refusal_of_response(502, b"<html>"), Deferred)
    assert isinstance(refusal_of_response(400, json.dumps(_error(190)).encode()), Rejected)
    assert isinstance(refusal_of_response(429, b""), Throttled)
    assert isinstance(refusal_of_response(403, b""), Rejected)
    assert refusal_of_response(200, b'{"success":true}') is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
)


@given(
    st.integers(0, 1000),
    st.binary(max_size=200)
    | st.builds(lambda v: json.dumps(v).encode(), json_values)
    | st.builds(lambda v: json.dumps({"error": v, "messages": [v]}).encode(), json_values)
    | st.builds(lambda v: json.dumps({"error": {"code": v, "error_data": v}}).encode(), json_values)
    | st.builds(
        lambda v: json.dumps({"messages": [{"id": v}], "contacts": v}).encode(), json_values
    ),
    st.none() | st.dictionaries(st.just("Retry-After"), st.text(max_size=20)),
)
def test_any_answer_has_an_outcome(status, body, headers):
    outcome_of_response(status, body, headers)
    refusal_of_response(status, body, headers)
