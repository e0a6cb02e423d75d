"""The demonstration is clean only where nothing is amiss, and says what may explain the rate."""

from collections import Counter
from types import SimpleNamespace

import pytest
from rich.console import Console

from tellwire.demo.report import TenantReport, as_table, most_that_may_arrive, tenant_report
from tellwire.demo.traffic import Followed

RATE = 80


def report(most: int, *, stall_ms: float = 0.0, precision_ms: float = 0.0, **more) -> TenantReport:
    number = {
        "phone_number_id": "1001",
        "distinct_messages": 2,
        "doubled_messages": 0,
        "messages_per_second": RATE,
        "max_offered_in_any_second": most,
    }
    after = {"longest_stall_ms": stall_ms, "stall_precision_ms": precision_ms}
    after |= {"numbers": [number | more]}
    tenant = SimpleNamespace(name="Ana's Bakery", phone_number_id="1001")
    followed = Followed(tenant, {"a": "read", "b": "read"}, Counter())
    return tenant_report(followed, {"numbers": []}, after)


def printed(*reports: TenantReport) -> str:
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(as_table(reports))
    return " ".join(capture.get().split())


def test_a_full_rate_is_clean_and_says_nothing_of_stalls():
    one = report(RATE, stall_ms=9.3, precision_ms=5.0)
    assert one.is_clean
    assert "80/80" in printed(one)
    assert "stood still" not in printed(one)


def test_one_more_than_the_rate_is_not_clean_and_nothing_explains_it_where_nothing_stood_still():
    assert not report(RATE + 1).is_clean
    assert "stood still" not in printed(report(RATE + 1))


@pytest.mark.parametrize(
    ("most", "explained"), [(RATE + 1, True), (RATE + 2, True), (RATE + 3, False)]
)
def test_a_stall_explains_as_many_as_leave_within_it_and_excuses_none(most, explained):
    one = report(most, stall_ms=14.0, precision_ms=5.0)  # 80 leave in 1,008 ms: two in 19 ms.
    assert not one.is_clean
    assert ("stood still for up to 19 ms" in printed(one)) is explained


@pytest.mark.parametrize("amiss", [{"doubled_messages": 1}, {"distinct_messages": 1}])
def test_what_is_doubled_or_lost_is_not_clean(amiss):
    assert not report(RATE, **amiss).is_clean


def test_what_may_arrive_grows_by_what_leaves_within_the_stall():
    assert most_that_may_arrive(RATE, stall_seconds=0) == RATE
    assert most_that_may_arrive(1000, stall_seconds=0.1008) == 1100
