"""When a worker says that it does not keep up with a channel."""

from whatsapp.application.slot_use import SlotUse
from whatsapp.domain.driving import Stance


def watched(late_every: int | None, *, seconds: float = 1.1) -> SlotUse:
    """A hundred slots per second; every so many is reached too late."""
    use = SlotUse()
    for number in range(int(seconds * 100)):
        late = late_every is not None and number % late_every == 0
        use.reached(in_time=not late, at=number / 100)
    return use


def test_a_worker_that_reaches_its_slots_serves_alone() -> None:
    assert watched(None).stance(1.1) is Stance.ALONE


def test_a_slot_that_is_late_now_and_then_says_nothing() -> None:
    use = watched(20)

    assert use.stance(1.1) is Stance.ALONE
    assert use.forfeited == 6


def test_a_worker_that_is_often_late_wants_to_be_relieved_until_it_is_not() -> None:
    use = watched(2)
    assert use.stance(1.1) is Stance.RELIEVE

    for number in range(110, 230):
        use.reached(in_time=True, at=number / 100)
    assert use.stance(2.3) is Stance.ALONE


def test_nothing_is_said_before_a_second_has_passed() -> None:
    assert watched(1, seconds=0.9).stance(0.9) is Stance.ALONE


def test_a_worker_with_all_its_requests_under_way_wants_company_for_a_while() -> None:
    use = SlotUse()
    use.full(10.0)

    assert use.stance(11.0) is Stance.JOIN
    assert use.stance(12.5) is Stance.ALONE


def test_more_slots_are_taken_for_whoever_misses_all_until_one_is_used() -> None:
    use = SlotUse()
    spares = []
    for second in range(4):
        use.took(last_at=None, at=second)
        spares.append(use.spare)
    assert spares == [0, 1, 3, 7]

    use.reached(in_time=True, at=4.0)
    use.took(last_at=5.0, at=4.5)
    assert use.spare == 3


def test_slots_that_are_still_to_come_were_not_taken_in_vain() -> None:
    use = SlotUse()
    for moment in range(4):
        use.took(last_at=1.0 + moment / 10, at=moment / 10)

    assert use.spare == 0
