"""When a worker says that it does not keep up with a channel."""

from whatsapp.application.slot_use import SlotUse
from whatsapp.domain.driving import Stance


def watched(late_every: int | None, *, seconds: float = 2.2) -> SlotUse:
    """A hundred slots per second; every so many is reached too late."""
    use = SlotUse()
    for number in range(int(seconds * 100)):
        late = late_every is not None and number % late_every == 0
        use.reached(in_time=not late, at=number / 100)
    return use


def test_a_worker_that_reaches_its_slots_serves_alone() -> None:
    assert watched(None).stance(2.2) is Stance.ALONE


def test_a_slot_that_is_late_now_and_then_says_nothing() -> None:
    use = watched(20)

    assert use.stance(2.2) is Stance.ALONE
    assert use.forfeited == 11


def test_a_worker_that_is_often_late_wants_to_be_relieved_until_it_is_not() -> None:
    use = watched(2)
    assert use.stance(2.2) is Stance.RELIEVE

    for number in range(220, 340):
        use.reached(in_time=True, at=number / 100)
    assert use.stance(3.4) is Stance.ALONE


def test_nothing_is_said_of_a_beginner() -> None:
    assert watched(1, seconds=1.9).stance(1.9) is Stance.ALONE


def test_a_worker_with_all_its_requests_under_way_wants_company_for_a_while() -> None:
    use = SlotUse()
    use.full(10.0)

    assert use.stance(11.0) is Stance.JOIN
    assert use.stance(12.5) is Stance.ALONE


def test_slots_that_were_given_up_are_forfeited_and_say_nothing_of_how_it_keeps_up() -> None:
    use = watched(None)
    use.gave_up(50.5)

    assert use.forfeited == 50.5
    assert use.stance(2.2) is Stance.ALONE


def test_slots_that_were_over_at_once_count_as_missed() -> None:
    use = SlotUse()
    use.missed(3, at=0.0)
    use.missed(3, at=1.1)

    use.missed(3, at=2.2)

    assert use.forfeited == 9
    assert use.stance(2.2) is Stance.RELIEVE
