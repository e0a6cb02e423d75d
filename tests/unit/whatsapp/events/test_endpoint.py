"""Endpoints, their secrets, and how long a delivery is tried."""

import base64
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.domain.events import (
    AddressPolicy,
    Answer,
    ClaimedDelivery,
    DeliveryOutcome,
    InvalidEndpoint,
    WebhookEndpoint,
    new_secret,
)
from whatsapp.domain.events.delivery import SCHEDULE_SECONDS, judge
from whatsapp.domain.events.endpoint import GIVE_UP_AFTER
from whatsapp.domain.events.signature import signed_headers

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)


def endpoint(**given):
    return WebhookEndpoint(
        **{"tenant_id": new_id(), "url": "https://example.com/hook", "secret": new_secret()} | given
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?key=1", "https://example.com:8443", "https://1.1.1.1/",
        "https://[2606:4700::1111]/", "HTTPS://EXAMPLE.COM/",
    ],
)  # fmt: skip
def test_an_https_url_is_an_endpoint(url) -> None:
    endpoint(url=url).ensure_valid(AddressPolicy())


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "example.com", "", "https:///x",
        "https://u:p@example.com/", "https://u@example.com/", "https://example.com/#x",
        "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "https://e x.com",
        "https://example.com:99999/", "https://exämple.com/", "https://example.com/\n", "https://[/",
        "https://example.com/" + "x" * 2048,
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_the_field_is_named(url) -> None:
    with pytest.raises(InvalidEndpoint) as refused:
        endpoint(url=url).ensure_valid(AddressPolicy())

    assert refused.value.field == "url"


def test_plain_http_needs_networks_of_the_operators() -> None:
    endpoint(url="http://10.0.0.1/").ensure_valid(AddressPolicy.parse("10.0.0.0/8"))


def test_neither_url_nor_secret_is_shown() -> None:
    shown = repr(endpoint(url="https://example.com/hook?key=canary"))

    assert "canary" not in shown
    assert "whsec_" not in shown


def test_a_secret_is_32_fresh_bytes_behind_its_prefix() -> None:
    one, other = new_secret().reveal(), new_secret().reveal()

    assert one != other
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32


def test_during_a_rotation_both_secrets_sign_and_after_it_one() -> None:
    rotated = endpoint()
    old, new = rotated.secret, new_secret()
    rotated.rotate(new, at=NOW, overlap=timedelta(hours=1))

    assert list(rotated.secrets_at(NOW)) == [new, old]
    assert list(rotated.secrets_at(NOW + timedelta(hours=1))) == [new]
    rotated.rotate(new_secret(), at=NOW, overlap=timedelta())
    assert len(rotated.secrets_at(NOW)) == 1
    with pytest.raises(InvalidEndpoint):
        rotated.rotate(new, at=NOW, overlap=timedelta(days=8))


def test_the_signature_is_the_standard_one_over_exactly_these_bytes() -> None:
    secret = new_secret()
    headers = signed_headers(b'{"a":1}', message_id="e1", at=datetime.now(UTC), secrets=[secret])

    Webhook(secret.reveal()).verify(b'{"a":1}', headers)
    for body, given in ((b'{"a":2}', headers), (b'{"a":1}', headers | {"webhook-id": "e2"})):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret.reveal()).verify(body, given)


def test_the_signature_agrees_with_the_published_example() -> None:
    """Standard Webhooks, the reference implementations' own test vector."""
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(
        b'{"test": 2432232314}',
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at=datetime.fromtimestamp(1614265330, UTC),
        secrets=[secret],
    )

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def claimed(attempt=1, queued_at=NOW):
    return ClaimedDelivery(
        tenant_id=new_id(),
        endpoint_id=new_id(),
        id=new_id(),
        event_id=new_id(),
        lease_token=new_id(),
        attempt=attempt,
        queued_at=queued_at,
    )


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_has_taken_it(status) -> None:
    result = judge(claimed(), Answer(status=status), at=NOW, rng=Random(1))

    assert result.outcome is DeliveryOutcome.DELIVERED


@pytest.mark.parametrize("answer", [Answer(status=s) for s in (301, 400, 404, 429, 500)] + [
    Answer(error="timed_out")
])  # fmt: skip
def test_anything_else_is_tried_again_later_each_time(answer) -> None:
    for attempt in range(1, 20):
        result = judge(claimed(attempt), answer, at=NOW, rng=Random(attempt))
        wait = (result.due_at - NOW).total_seconds()
        expected = SCHEDULE_SECONDS[min(attempt, len(SCHEDULE_SECONDS)) - 1]

        assert result.outcome is DeliveryOutcome.RETRYING
        assert 0.8 * expected <= wait <= 1.2 * expected


def test_the_waits_of_many_are_not_the_same() -> None:
    rng = Random(1)
    waits = {judge(claimed(), Answer(status=500), at=NOW, rng=rng).due_at for _ in range(50)}

    assert len(waits) == 50


def test_it_is_tried_for_three_days_and_once_at_their_end() -> None:
    at, queued, attempts = NOW, NOW, 0
    while True:
        attempts += 1
        result = judge(claimed(attempts, queued), Answer(status=500), at=at, rng=Random(attempts))
        if result.outcome is DeliveryOutcome.GIVEN_UP:
            break
        at = result.due_at

    assert at == queued + GIVE_UP_AFTER
    assert 12 <= attempts <= 18


def test_who_asks_for_time_gets_it_within_bounds() -> None:
    def wait(seconds, status=429):
        answer = Answer(status=status, retry_after=timedelta(seconds=seconds))
        return judge(claimed(), answer, at=NOW, rng=Random(1)).due_at - NOW

    assert wait(120) == timedelta(seconds=120)
    assert wait(10**8) <= timedelta(hours=12)
    assert wait(1) >= timedelta(seconds=4)
    assert wait(120, status=500) < timedelta(seconds=10)


def test_an_endpoint_has_failed_for_good_once_nothing_was_taken_in_three_days() -> None:
    assert not endpoint().has_failed_for_good(NOW)
    assert not endpoint(failing_since=NOW - timedelta(days=2)).has_failed_for_good(NOW)
    assert endpoint(failing_since=NOW - timedelta(days=3)).has_failed_for_good(NOW)
