import pytest

from whatsapp_simulator.behaviour import NORMAL, Behaviour, magic
from whatsapp_simulator.graph_errors import CODES
from whatsapp_simulator.identity import Names, digits_of, is_bsuid, user_id_of, wa_id_of


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_can_be_asked_for_at_once_later_and_after_sent(code):
    assert magic(f"15551{code:06d}") == Behaviour(error=code)
    assert magic(f"15552{code:06d}") == Behaviour(failed=code)
    assert magic(f"15553{code:06d}") == Behaviour(failed=code, failed_after="sent")


@pytest.mark.parametrize(
    ("recipient", "behaviour"),
    [
        ("15554010000", Behaviour(before="hang")),
        ("15554020000", Behaviour(after="hang")),
        ("15554030000", Behaviour(before="reset")),
        ("15554040000", Behaviour(after="reset")),
        ("15554050250", Behaviour(latency_ms=250)),
        ("15554060250", Behaviour(slow_ms=250)),
        ("15554070000", Behaviour(after="garbage")),
        ("15554080000", Behaviour(after="empty")),
        ("15554090503", Behaviour(before="html", http=503)),
        ("15554100000", Behaviour(after="html", http=502)),
        ("15554110000", Behaviour(after="truncated")),
        ("15555010000", Behaviour(script="reversed")),
        ("15555020000", Behaviour(script="doubled")),
        ("15555030000", Behaviour(script="lost")),
        ("15555040012", Behaviour(script="late", late_s=12)),
        ("15555040000", Behaviour(script="late")),
        ("15555050000", Behaviour(script="read_only")),
        ("15555060000", Behaviour(script="sent_only")),
        ("15555070000", Behaviour(script="delivered_only")),
        ("15555080000", Behaviour(script="no_delivered")),
        ("15555090000", Behaviour(script="early", slow_ms=400)),
        ("15555100000", Behaviour(script="delivered_first")),
        ("15555110000", Behaviour(script="held")),
        ("15555120000", Behaviour(script="held_failed")),
        ("15555130000", Behaviour(script="sent_after_failed")),
        ("15556010000", Behaviour(identity="bsuid")),
        ("15556020000", Behaviour(identity="both")),
        ("US.15551131026", Behaviour(error=131026)),
    ],
)
def test_a_magic_recipient_asks_for_its_behaviour(recipient, behaviour):
    assert magic(recipient) == behaviour


@pytest.mark.parametrize(
    "recipient",
    ["15550131026", "15557131026", "1555113102", "155511310261", "25551131026", "US.x5551131026"],
)
def test_any_other_recipient_is_ordinary(recipient):
    assert magic(recipient) is NORMAL


@pytest.mark.parametrize(
    ("typed", "wa_id"),
    [
        ("5531988887777", "553188887777"),
        ("5511988887777", "5511988887777"),
        ("553188887777", "553188887777"),
        ("525512345678", "5215512345678"),
        ("5215512345678", "5215512345678"),
        ("541112345678", "5491112345678"),
        ("5491112345678", "5491112345678"),
        ("14155550100", "14155550100"),
    ],
)
def test_the_wa_id_differs_where_whatsapp_changes_it(typed, wa_id):
    assert wa_id_of(typed) == wa_id


@pytest.mark.parametrize("typed", ["+1 (415) 555-0100", "14155550100", "1 415 555 0100"])
def test_punctuation_in_a_number_is_ignored(typed):
    assert digits_of(typed) == "14155550100"


@pytest.mark.parametrize(
    "typed", ["", "+", "abc", "123", "0" * 11, "1" * 16, "1415555\N{ARABIC-INDIC DIGIT ZERO}100"]
)
def test_what_is_no_number_is_none(typed):
    assert digits_of(typed) is None


def test_business_scoped_ids_are_stable_and_well_shaped():
    assert user_id_of("14155550100") == user_id_of("14155550100") != user_id_of("14155550101")
    assert is_bsuid(user_id_of("14155550100"))
    assert is_bsuid("US.ENT.1aB")
    assert not is_bsuid("14155550100")
    assert not is_bsuid("us.1")


def test_ids_differ_within_and_between_processes():
    one, other = Names(), Names()

    ids = [names.wamid("14155550100") for names in (one, other) for _ in range(1000)]
    ids += [one.digits() for _ in range(1000)]

    assert len(set(ids)) == 3000
    assert all(i.startswith("wamid.") for i in ids[:2000])
