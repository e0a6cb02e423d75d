import pytest

from whatsapp.domain.value_objects import PhoneNumber

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
