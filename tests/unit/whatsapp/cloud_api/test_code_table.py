"""Each row of Meta's table, written down a second time, from the facts and not from the code."""

from datetime import timedelta
from random import Random

import pytest

from whatsapp.domain.outcome import RejectAction, ThrottleScope
from whatsapp.domain.retry import retry_delay
from whatsapp.infrastructure.cloud_api.code_rule import CodeClass, Seen, channel
from whatsapp.infrastructure.cloud_api.code_table import CODES, known_codes, rule_for

T, R, P, C = CodeClass.THROTTLE, CodeClass.TRANSIENT, CodeClass.PERMANENT, CodeClass.CHANNEL
S, A, SA, IN = Seen.SYNC, Seen.ASYNC, Seen.SYNC | Seen.ASYNC, Seen.INBOUND

ROWS = {
    0: (C, S),
    1: (R, S),
    2: (R, S),
    3: (C, S),
    4: (T, S),
    10: (C, S),
    17: (T, S),
    33: (C, S),
    100: (P, S),
    102: (C, S),
    104: (C, S),
    190: (C, S),
    200: (C, S),
    250: (C, S),
    299: (C, S),
    341: (T, S),
    368: (C, SA),
    613: (T, S),
    803: (C, S),
    2500: (C, S),
    80007: (T, S),
    80008: (T, S),
    130403: (P, S),
    130429: (T, SA),
    130472: (P, A),
    130497: (P, SA),
    130501: (P, S),
    131000: (R, SA),
    131005: (C, S),
    131008: (P, S),
    131009: (P, SA),
    131014: (R, A),
    131016: (R, SA),
    131020: (P, SA),
    131021: (P, S),
    131026: (P, SA),
    131030: (P, S),
    131031: (C, SA),
    131037: (C, S),
    131041: (P, SA),
    131042: (C, SA),
    131045: (C, SA),
    131047: (P, SA),
    131048: (T, SA),
    131049: (P, A),
    131050: (P, SA),
    131051: (P, S | IN),
    131052: (P, IN),
    131053: (R, SA),
    131055: (P, S),
    131056: (T, SA),
    131057: (R, S),
    131059: (P, SA),
    131060: (P, IN),
    131062: (P, SA),
    131063: (P, S),
    131064: (T, SA),
    131215: (P, SA),
    132000: (P, S),
    132001: (P, S),
    132005: (P, S),
    132007: (P, S),
    132008: (P, S),
    132012: (P, S),
    132015: (P, SA),
    132016: (P, SA),
    132018: (P, S),
    132068: (P, S),
    132069: (T, S),
    133000: (C, S),
    133004: (R, S),
    133005: (C, S),
    133006: (C, S),
    133008: (C, S),
    133009: (C, S),
    133010: (C, S),
    133015: (C, S),
    133016: (T, S),
    134011: (P, S),
    134100: (P, S),
    134101: (R, S),
    134102: (P, S),
    135000: (P, S),
    136024: (P, S),
    137000: (P, A),
    138006: (P, S),
    139000: (P, S),
    139004: (P, S),
    139103: (P, S),
    147005: (P, S),
    200007: (P, S),
    2388094: (P, S),
    2494100: (R, S),
    2593108: (P, S),
}


@pytest.mark.parametrize(("code", "expected"), ROWS.items(), ids=map(str, ROWS))
def test_a_code_has_its_class_and_its_place(code, expected):
    rule = rule_for(code)

    assert (rule.kind, rule.seen) == expected


def test_every_row_of_the_table_is_tested():
    assert set(CODES) <= set(ROWS)


@pytest.mark.parametrize("row", list(known_codes()), ids=lambda row: row[0])
def test_a_row_explains_itself_and_can_be_acted_upon(row):
    _, rule = row

    assert rule.title
    assert rule.advice.endswith((".", "!"))
    assert (rule.retry is None) is (rule.kind in {P, C})
    assert (rule.scope is not None) is (rule.kind is T)
    assert (rule.action is RejectAction.PAUSE_CHANNEL) is (rule.kind is C)


@pytest.mark.parametrize("code", [None, -1, 5, 199, 300, 130999, 131199, 2**31])
def test_a_code_that_nobody_knows_is_permanent_unless_meta_calls_it_transient(code):
    assert rule_for(code).kind is P
    assert rule_for(code).action is RejectAction.FAIL
    assert rule_for(code, is_transient=True).kind is R
    assert rule_for(code, is_transient=True).retry.retries <= 3


def test_a_known_permanent_code_is_not_retried_because_of_a_flag():
    assert rule_for(131026, is_transient=True).kind is P


def test_an_invalid_parameter_that_is_the_number_itself_pauses_the_channel():
    assert rule_for(100).action is RejectAction.FAIL
    assert rule_for(100, subcode=33).action is RejectAction.PAUSE_CHANNEL
    assert rule_for(190, subcode=463).action is RejectAction.PAUSE_CHANNEL


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        (4, ThrottleScope.APP),
        (80007, ThrottleScope.ACCOUNT),
        (80008, ThrottleScope.ACCOUNT),
        (130429, ThrottleScope.NUMBER),
        (131048, ThrottleScope.NUMBER),
        (131056, ThrottleScope.PAIR),
        (131064, ThrottleScope.MESSAGE),
        (132069, ThrottleScope.MESSAGE),
        (133016, ThrottleScope.MESSAGE),
    ],
)
def test_a_throttle_slows_down_no_more_than_it_must(code, scope):
    assert rule_for(code).scope is scope


def _delays(code, attempt, draws=200):
    rng = Random(code)
    return [retry_delay(rule_for(code).retry, attempt=attempt, rng=rng) for _ in range(draws)]


def test_the_pair_limit_waits_the_powers_of_four_that_meta_prescribes():
    for attempt, seconds in enumerate([1, 4, 16, 64, 256, 1024, 1024], start=1):
        delays = [delay.total_seconds() for delay in _delays(131056, attempt)]
        assert seconds <= min(delays)
        assert max(delays) <= seconds * 1.25


def test_the_throughput_limit_starts_at_a_second_and_spreads():
    delays = [delay.total_seconds() for delay in _delays(130429, 1)]

    assert 0 <= min(delays) < 0.1
    assert 0.9 < max(delays) <= 1


@pytest.mark.parametrize(
    ("code", "least", "most"),
    [
        (131057, timedelta(minutes=1), timedelta(minutes=6)),
        (131048, timedelta(hours=1), timedelta(hours=7)),
        (131064, timedelta(hours=1), timedelta(hours=7)),
        (133016, timedelta(hours=72), timedelta(hours=78)),
        (134101, timedelta(minutes=1), timedelta(minutes=11)),
    ],
)
def test_waits_that_meta_names_are_kept_at_every_attempt(code, least, most):
    for attempt in range(1, rule_for(code).retry.retries + 1):
        assert all(least <= delay <= most for delay in _delays(code, attempt))


def test_withheld_marketing_is_not_repeated_and_not_within_a_day_by_hand():
    rule = rule_for(131049)

    assert rule.retry is None
    assert rule.wait >= timedelta(hours=24)


@pytest.mark.parametrize("code", [1, 131000, 131053, 131014])
def test_vague_errors_get_few_tries(code):
    assert rule_for(code).retry.retries == 3


@pytest.mark.parametrize("code", sorted(code for code, rule in CODES.items() if rule.retry))
def test_every_retry_ends(code):
    assert retry_delay(rule_for(code).retry, attempt=1000, rng=Random(1)) is None


@pytest.mark.parametrize("code", [130403, 131021, 131030, 131050, 131062, 137000, 130497])
def test_a_refusal_that_concerns_the_recipient_says_so(code):
    assert rule_for(code).action is RejectAction.FAIL_RECIPIENT


@pytest.mark.parametrize("code", [132001, 132007, 132015, 132016, 132068, 131063, 134102])
def test_a_refusal_that_concerns_the_template_says_so(code):
    assert rule_for(code).action is RejectAction.FAIL_TEMPLATE


def test_a_rule_that_contradicts_itself_cannot_be_made():
    good = channel("t", "a.")

    with pytest.raises(ValueError, match="either retries or acts"):
        type(good)(kind=R, seen=S, title="t", advice="a.")
    with pytest.raises(ValueError, match="scope"):
        type(good)(
            kind=P,
            seen=S,
            title="t",
            advice="a.",
            scope=ThrottleScope.APP,
            action=RejectAction.FAIL,
        )
