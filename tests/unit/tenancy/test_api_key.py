from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel.ids import new_id
from tenancy.domain import InvalidApiKey, IssuedApiKey, Scope, parse_scopes, read_key

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
TENANT = UUID("0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60")
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def issue(**changes):
    given = {"tenant_id": TENANT, "name": "Shop", "scopes": frozenset(Scope), "at": NOW}
    return IssuedApiKey.issue(**(given | changes))


@given(st.uuids())
def test_the_text_of_a_key_names_its_tenant_and_itself(tenant) -> None:
    issued = issue(tenant_id=tenant)

    presented = read_key(issued.text.reveal())

    assert (presented.tenant_id, presented.key_id) == (tenant, issued.key.id)
    assert issued.key.admits(presented.digest, NOW)


@pytest.mark.parametrize("tenant", [UUID(int=0), UUID(int=2**128 - 1)])
def test_the_text_always_has_one_shape(tenant) -> None:
    text = issue(tenant_id=tenant).text.reveal()

    assert len(text) == 3 + 43 + 1 + 43
    assert text.startswith("tw_")
    assert set(text[3:46] + text[47:]) <= set(ALPHABET)


def test_no_two_keys_are_alike() -> None:
    assert issue().text != issue().text


def test_neither_the_key_nor_its_issue_shows_the_secret() -> None:
    issued = issue()
    secret = issued.text.reveal()[47:]

    assert secret not in repr(issued)
    assert issued.key.secret_digest.hex() not in repr(issued)
    assert repr(issued.key.secret_digest) not in repr(issued)


@pytest.mark.parametrize("place", [0, 2, 3, 20, 45, 46, 47, 60, 89])
def test_a_changed_character_makes_it_another_key_or_none(place) -> None:
    issued = issue()
    text = issued.text.reveal()
    changed = text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :]

    presented = read_key(changed)

    assert presented is None or (
        (presented.tenant_id, presented.key_id) != (TENANT, issued.key.id)
        or not issued.key.admits(presented.digest, NOW)
    )


@pytest.mark.parametrize(
    "garbage",
    [
        *("", "tw_", "tw__", "Bearer", "null", "tw_" + "z" * 43 + "_" + "0" * 43),
        *("tw_" + "0" * 43 + "_" + "z" * 43, "tw_" + "0" * 42 + "_" + "0" * 44),
        *("TW_" + "0" * 43 + "_" + "0" * 43, "tw_" + "0" * 43 + "_" + "0" * 42 + "é"),
        *("tw_" + "0" * 43 + "_" + "0" * 43 + "\n", " tw_" + "0" * 43 + "_" + "0" * 43),
        *(
            "tw_" + "\N{ARABIC-INDIC DIGIT ZERO}" * 43 + "_" + "0" * 43,
            "\udce9",
            "tw_" + "0" * 100_000,
        ),
    ],
)
def test_garbage_is_no_key(garbage) -> None:
    assert read_key(garbage) is None


@given(st.text())
def test_reading_a_key_never_raises(text) -> None:
    assert read_key(text) is None


def test_a_key_opens_only_until_it_expires() -> None:
    issued = issue(expires_at=NOW + timedelta(hours=1))
    digest = issued.key.secret_digest

    assert issued.key.admits(digest, NOW + timedelta(minutes=59))
    assert not issued.key.admits(digest, NOW + timedelta(hours=1))


def test_a_revoked_key_never_opens_and_keeps_its_time() -> None:
    key = issue().key
    key.revoke(NOW)
    key.revoke(NOW + timedelta(days=1))

    assert key.revoked_at == NOW
    assert not key.admits(key.secret_digest, NOW)


@pytest.mark.parametrize(
    "expires_at",
    [NOW, NOW - timedelta(days=1), datetime(2030, 1, 1)],  # noqa: DTZ001  # naive on purpose
)
def test_a_key_that_could_never_be_used_is_not_made(expires_at) -> None:
    with pytest.raises(InvalidApiKey) as refused:
        issue(expires_at=expires_at)

    assert refused.value.field == "expires_at"


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 201, "\udc80", "\x1b[31m"])
def test_a_name_that_nobody_could_read_is_refused(name) -> None:
    with pytest.raises(InvalidApiKey) as refused:
        issue(name=name)

    assert refused.value.field == "name"


@pytest.mark.parametrize("texts", [[], ["messages:send", "everything"], ["MESSAGES:SEND"], ["*"]])
def test_unknown_scopes_and_none_are_refused_and_the_known_ones_named(texts) -> None:
    with pytest.raises(InvalidApiKey, match="messages:send") as refused:
        parse_scopes(texts)

    assert refused.value.field == "scopes"


def test_scopes_are_read_from_their_names() -> None:
    assert parse_scopes(["messages:send", "messages:send"]) == {Scope.MESSAGES_SEND}


def test_ids_are_made_in_order() -> None:
    assert issue().key.id < new_id()
