from datetime import timedelta
from random import Random

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
    Unreachable,
    scrub,
    wait_before_retry,
)
from whatsapp.domain.retry import RetryPolicy

TWICE = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=1), retries=2)
WHY = FailureReason(130429, "Rate limit hit", "Too many messages")


@pytest.mark.parametrize(
    "text",
    [
        "Recipient 5511987654321 is not valid",
        "Recipient +55 11 98765-4321 is not valid",
        "Recipient (011) 9876 5432 is not valid",
        "user US.13491208655302741918 has no phone",
        "user DE.ENT.11815799212886844830 has no phone",
        "Malformed access token EAAGm0PX4ZCpsBAKZCZBx7Q9canaryXYZ0123456789abc",
    ],
)
def test_what_identifies_a_person_or_opens_a_door_is_cut_out(text):
    clean = scrub(text)

    assert "[removed]" in clean
    assert not any(part in clean for part in ("98765", "9876", "1349", "1181", "canary"))


@pytest.mark.parametrize(
    "text", ["(#131030) Recipient not in list", "body is 4097 of 4096", "Wait 72 hours"]
)
def test_what_an_operator_needs_is_left(text):
    assert scrub(text) == text


@given(st.text(alphabet="0123456789 +-().a", max_size=3000))
def test_no_run_of_seven_digits_survives(text):
    reason = FailureReason(None, text, text)

    for shown in (reason.title, reason.details, repr(reason)):
        assert not any(run.isdigit() for run in (shown[i : i + 7] for i in range(len(shown) - 6)))


def test_a_reason_is_bounded_and_fit_for_the_database():
    reason = FailureReason(1, "t" * 10 + "\x00" + "! " * 5000, "d, " * 5000)

    assert len(reason.title) <= 200
    assert len(reason.details) <= 1000
    assert "\x00" not in reason.title


def test_an_accepted_message_does_not_show_its_recipient():
    shown = repr(Accepted("wamid.X", wa_id="5511987654321", user_id="BR.777"))

    assert "5511987654321" not in shown
    assert "BR.777" not in shown


@pytest.mark.parametrize(
    "outcome",
    [
        Accepted("wamid.X"),
        Rejected(WHY, RejectAction.FAIL),
        Rejected(WHY, RejectAction.PAUSE_CHANNEL),
        Unknown("read timed out"),
    ],
)
def test_nothing_that_was_taken_refused_or_may_have_been_sent_is_sent_again(outcome):
    assert wait_before_retry(outcome, attempt=1, rng=Random(1)) is None


@pytest.mark.parametrize(
    "outcome", [Throttled(WHY, ThrottleScope.NUMBER, TWICE), Deferred(WHY, TWICE)]
)
def test_what_meta_did_not_take_is_sent_again_until_its_policy_is_exhausted(outcome):
    assert wait_before_retry(outcome, attempt=2, rng=Random(1)) is not None
    assert wait_before_retry(outcome, attempt=3, rng=Random(1)) is None


def test_what_never_left_is_sent_again_for_ever_but_not_faster_than_the_cap():
    delays = [wait_before_retry(Unreachable("dns"), attempt=n, rng=Random(n)) for n in range(1, 99)]

    assert all(delay is not None and delay <= timedelta(minutes=5) for delay in delays)
    assert max(delays) > timedelta(minutes=4)


def test_a_throttle_waits_as_long_as_meta_asked():
    outcome = Throttled(WHY, ThrottleScope.NUMBER, TWICE, retry_after=timedelta(seconds=40))

    delay = wait_before_retry(outcome, attempt=1, rng=Random(1))

    assert timedelta(seconds=40) <= delay <= timedelta(seconds=41)
    assert (outcome.code, outcome.title, outcome.details) == (
        130429,
        "Rate limit hit",
        "Too many messages",
    )


def test_a_scope_rests_as_long_as_its_rule_or_meta_demands():
    hours = RetryPolicy(
        base=timedelta(hours=1), cap=timedelta(hours=6), retries=8, floor=timedelta(hours=1)
    )
    asked = timedelta(seconds=40)

    assert Throttled(WHY, ThrottleScope.NUMBER, TWICE).hold == timedelta()
    assert Throttled(WHY, ThrottleScope.NUMBER, TWICE, asked).hold == asked
    assert Throttled(WHY, ThrottleScope.NUMBER, hours, asked).hold == timedelta(hours=1)
