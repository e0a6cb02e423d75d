import pytest

from whatsapp.domain.phone_number_info import PhoneNumberInfo

FIT = {
    "status": "CONNECTED",
    "platform_type": "CLOUD_API",
    "code_verification_status": "VERIFIED",
    "name_status": "APPROVED",
    "quality_rating": "GREEN",
    "account_mode": "LIVE",
    "can_send_message": "AVAILABLE",
}


def _info(**more):
    return PhoneNumberInfo(phone_number_id="1", **{**FIT, **more})


def test_nothing_stands_against_a_number_that_is_fit_or_of_which_little_is_known():
    for info in (_info(), PhoneNumberInfo(phone_number_id="1")):
        assert (info.obstacles, info.warnings) == ((), ())


@pytest.mark.parametrize(
    "more",
    [
        {"status": "PENDING"},
        {"status": "BANNED"},
        {"platform_type": "ON_PREMISE"},
        {"platform_type": "NOT_APPLICABLE"},
        {"can_send_message": "BLOCKED"},
    ],
)
def test_an_obstacle_is_named(more):
    assert len(_info(**more).obstacles) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"code_verification_status": "EXPIRED"},
        {"name_status": "DECLINED"},
        {"quality_rating": "RED"},
        {"can_send_message": "LIMITED"},
        {"account_mode": "SANDBOX"},
    ],
)
def test_a_warning_does_not_keep_a_number_from_sending(more):
    assert len(_info(**more).warnings) == 1
    assert _info(**more).obstacles == ()
