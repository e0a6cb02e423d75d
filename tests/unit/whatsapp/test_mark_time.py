"""When a group is marked, and for how long a mark lasts."""

from datetime import timedelta

from whatsapp.application.mark_time import MarkTime
from whatsapp.domain.send_queue import Lease


def after(*seconds: float) -> MarkTime:
    time = MarkTime()
    for one in seconds:
        time.took(one)
    return time


def test_the_lead_follows_what_marking_takes_between_its_bounds() -> None:
    assert after(0.001).lead_seconds == 0.02
    assert after(0.04).lead_seconds == 0.06
    assert after(3).lead_seconds == 0.15


def test_a_lease_leaves_time_for_sending_after_a_mark_that_took_long() -> None:
    wanted = Lease(timedelta(seconds=3))

    assert after(0.3).lease(wanted) is wanted
    assert after(2).lease(wanted).to_leave == timedelta(seconds=4)
    assert after(50).lease(wanted).length == timedelta(seconds=60)
    assert after(50).lease(Lease(timedelta(seconds=90))).length == timedelta(seconds=90)
