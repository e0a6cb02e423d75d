import pytest

from shared.kernel.ids import new_id
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.value_objects import MessageContent, PhoneNumber, UserId

PAIRS = [
    ("+5511987654321", "+551187654321"),
    ("+525512345678", "+5215512345678"),
    ("+541123456789", "+5491123456789"),
]


@pytest.mark.parametrize(("one", "other"), [*PAIRS, *(pair[::-1] for pair in PAIRS)])
def test_a_mobile_number_of_three_countries_has_two_spellings(one, other) -> None:
    assert PhoneNumber(one).other_spelling == PhoneNumber(other)


@pytest.mark.parametrize(
    "number",
    ["+4915112345678", "+14155550100", "+551132654321", "+5511932654321", "+5255123456"],
)
def test_every_other_number_has_one(number) -> None:
    assert PhoneNumber(number).other_spelling is None


@pytest.mark.parametrize("pair", PAIRS)
def test_both_spellings_are_counted_as_the_shorter_one(pair) -> None:
    shorter = PhoneNumber(min(pair, key=len))

    assert [PhoneNumber(one).canonical for one in pair] == [shorter, shorter]


@pytest.mark.parametrize("number", ["+4915112345678", "+551132654321", "+5511932654321"])
def test_every_other_number_is_counted_as_it_is_written(number) -> None:
    assert PhoneNumber(number).canonical == PhoneNumber(number)


@pytest.mark.parametrize(
    ("recipient", "phone", "person"),
    [
        (PhoneNumber("+5215512345678"), None, PhoneNumber("+525512345678")),
        (UserId("MX.1"), PhoneNumber("+5215512345678"), PhoneNumber("+525512345678")),
        (UserId("MX.1"), None, UserId("MX.1")),
    ],
)
def test_a_message_goes_to_a_person_and_is_written_as_it_was(recipient, phone, person) -> None:
    message = OutboundMessage(
        tenant_id=new_id(),
        channel_id=new_id(),
        recipient=recipient,
        content=MessageContent.text("Hello"),
        phone=phone,
    )

    assert message.person == person
    assert message.recipient == recipient
