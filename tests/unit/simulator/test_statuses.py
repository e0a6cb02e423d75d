from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp_simulator.behaviour import Behaviour, magic
from whatsapp_simulator.clock import MILLISECOND_NS, SECOND_NS, SimulatorClock
from whatsapp_simulator.config import StatusDelays, WebhookSettings
from whatsapp_simulator.number import Account, Number
from whatsapp_simulator.statuses import Delays, SentMessage, StatusBoard, plan, stretch_of

DELAYS = Delays.of(StatusDelays())


class Collector:
    def __init__(self):
        self.items = []

    def offer(self, update):
        self.items.append(update.item)


def _message(**changes):
    number = Number(
        "10",
        display_phone_number="+1 555-0100",
        account=Account("1"),
        access_token=None,
        messages_per_second=80,
        verified_name="Name",
    )
    message = SentMessage(
        number=number,
        wamid="wamid.A",
        wa_id="15550101",
        user_id="US.1",
        callback="0190.1",
        category="service",
        type="text",
        voice=False,
    )
    return message._replace(**changes)


def _steps(behaviour, **changes):
    return plan(_message(**changes), behaviour, delays=DELAYS, stretch=1.0)


def _told(behaviour, **changes):
    steps = sorted(_steps(behaviour, **changes), key=lambda step: step.after_ns)
    return " ".join(step.status if step.code is None else str(step.code) for step in steps)


@pytest.mark.parametrize("failed_after", ["accepted", "sent", "delivered"])
def test_a_reaction_that_fails_is_never_delivered(failed_after):
    told = _told(Behaviour(failed=131009, failed_after=failed_after), type="reaction")

    assert told == ("131009" if failed_after == "accepted" else "sent 131009")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("reversed", "sent"),
        ("doubled", "sent sent"),
        ("read_only", ""),
        ("delivered_first", "sent"),
    ],
)
def test_of_a_reaction_only_sent_is_told_whatever_the_script(script, told):
    assert _told(Behaviour(script=script), type="reaction") == told


def test_a_voice_note_that_is_told_twice_is_played_twice():
    told = _told(Behaviour(script="doubled"), type="audio", voice=True)

    assert told == "sent sent delivered delivered read read played played"


def test_a_voice_note_that_is_told_in_reverse_begins_with_played():
    told = _told(Behaviour(script="reversed"), type="audio", voice=True)

    assert told == "played read delivered sent"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("normal", "sent delivered read"),
        ("late", "sent delivered read"),
        ("held", "sent delivered read"),
        ("early", "sent delivered read"),
        ("reversed", "read delivered sent"),
        ("doubled", "sent sent delivered delivered read read"),
        ("lost", ""),
        ("read_only", "read"),
        ("sent_only", "sent"),
        ("delivered_only", "sent delivered"),
        ("no_delivered", "sent read"),
        ("delivered_first", "delivered sent read"),
        ("held_failed", "132015"),
        ("sent_after_failed", "131000 sent"),
    ],
)
def test_each_script_tells_its_statuses_in_its_order(script, told):
    assert _told(Behaviour(script=script)) == told


@pytest.mark.parametrize(
    ("after", "told"),
    [("accepted", "131026"), ("sent", "sent 131026"), ("delivered", "sent delivered 131026")],
)
def test_a_failure_comes_where_it_is_asked_for(after, told):
    assert _told(Behaviour(failed=131026, failed_after=after)) == told


def test_code_zero_can_fail_too():
    assert _told(Behaviour(failed=0)) == "0"


def test_a_reaction_is_only_sent_and_a_voice_note_is_played():
    assert _told(Behaviour(), type="reaction") == "sent"
    assert _told(Behaviour(), type="audio", voice=True) == "sent delivered read played"
    assert _told(Behaviour(script="sent_only"), type="audio", voice=True) == "sent"


def test_late_and_held_statuses_are_shifted_as_a_whole():
    normal = [step.after_ns for step in _steps(Behaviour())]
    late = [step.after_ns for step in _steps(Behaviour(script="late", late_s=7))]
    held = [step.after_ns for step in _steps(Behaviour(script="held"))]

    assert late == [t + 7 * SECOND_NS for t in normal]
    assert held == [t + DELAYS.hold for t in normal]


@pytest.mark.parametrize(
    ("script", "priced"),
    [
        ("normal", ["sent", "delivered"]),
        ("no_delivered", ["sent", "read"]),
        ("read_only", ["read"]),
        ("held_failed", []),
    ],
)
def test_the_price_comes_with_sent_and_with_one_of_delivered_and_read(script, priced):
    assert [s.status for s in _steps(Behaviour(script=script)) if s.priced] == priced


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_jitter_never_changes_the_order(seed, jitter):
    dice = Random(seed)  # repeatable dice are the point
    stretch = stretch_of(dice, jitter)
    steps = plan(_message(), Behaviour(), delays=DELAYS, stretch=stretch)

    assert 1 - jitter <= stretch <= 1 + jitter
    assert [s.after_ns for s in steps] == sorted(s.after_ns for s in steps)


def _board(version="v23.0"):
    now = {"ns": 10 * SECOND_NS}
    clock = SimulatorClock(
        monotonic_ns=lambda: now["ns"], wall_ns=lambda: 1_800_000_000 * SECOND_NS
    )
    collector = Collector()
    board = StatusBoard(
        tick_ns=20 * MILLISECOND_NS,
        clock=clock,
        sender=collector,
        settings=WebhookSettings(version=version),
    )
    return now, board, collector


def test_a_status_is_never_early_and_at_most_one_tick_late():
    now, board, collector = _board()
    start = now["ns"]
    board.schedule(_message(), _steps(Behaviour()), start)

    seen = {}
    while now["ns"] < start + 2 * SECOND_NS:
        now["ns"] += MILLISECOND_NS
        board.release(now["ns"])
        for item in collector.items:
            seen.setdefault(item["status"], now["ns"] - start)

    for status, due in (("sent", 100), ("delivered", 400), ("read", 1500)):
        assert due * MILLISECOND_NS <= seen[status] <= (due + 20) * MILLISECOND_NS


def test_a_long_stall_loses_nothing_and_keeps_the_order():
    now, board, collector = _board()
    board.schedule(_message(), _steps(Behaviour()), now["ns"])

    board.release(now["ns"] + 3600 * SECOND_NS)

    assert [item["status"] for item in collector.items] == ["sent", "delivered", "read"]


def test_a_status_carries_what_meta_reports():
    now, board, collector = _board()
    board.schedule(_message(category="marketing"), _steps(Behaviour()), now["ns"])
    board.release(now["ns"] + 3600 * SECOND_NS)

    sent, delivered, read = collector.items
    assert sent == {
        "id": "wamid.A",
        "status": "sent",
        "timestamp": "1800000000",
        "recipient_id": "15550101",
        "recipient_user_id": "US.1",
        "biz_opaque_callback_data": "0190.1",
        "pricing": {
            "billable": True,
            "pricing_model": "PMP",
            "type": "regular",
            "category": "marketing",
        },
        "conversation": {
            "id": sent["conversation"]["id"],
            "origin": {"type": "marketing"},
            "expiration_timestamp": "1800086400",
        },
    }
    assert "expiration_timestamp" not in delivered["conversation"]
    assert {"pricing", "conversation"}.isdisjoint(read)
    assert {item["biz_opaque_callback_data"] for item in collector.items} == {"0190.1"}


def test_from_version_24_on_there_is_no_conversation():
    now, board, collector = _board("v26.0")
    board.schedule(_message(), _steps(Behaviour()), now["ns"])
    board.release(now["ns"] + 3600 * SECOND_NS)

    assert all("conversation" not in item for item in collector.items)
    assert "pricing" in collector.items[0]


def test_a_failed_status_names_its_error_and_has_no_price():
    now, board, collector = _board()
    board.schedule(_message(), _steps(magic("15552131026")), now["ns"])
    board.release(now["ns"] + 3600 * SECOND_NS)

    (failed,) = collector.items
    assert failed["status"] == "failed"
    assert failed["errors"][0]["code"] == 131026
    assert set(failed["errors"][0]) == {"code", "title", "message", "error_data", "href"}
    assert {"pricing", "conversation"}.isdisjoint(failed)
