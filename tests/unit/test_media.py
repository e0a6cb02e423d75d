import base64
import hashlib
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel.ids import new_id
from whatsapp.domain.media import (
    MAX_FILENAME_CHARACTERS,
    InvalidMedia,
    Media,
    MediaDirection,
    MediaFailure,
    MediaKey,
    MediaNotAvailable,
    MediaNotFound,
    MediaNotReady,
    MediaStatus,
    digest_of,
    is_media_id,
    safe_filename,
    wait_after,
)
from whatsapp.domain.media_type import (
    MEBIBYTE,
    MediaKind,
    MediaTooLarge,
    MediaTypeRefused,
    ensure_fits,
    essence,
    may_carry,
    sendable,
)
from whatsapp.domain.value_objects import MessageContent

DIGEST = hashlib.sha256(b"x").digest()


def media(**changes):
    values = {
        "tenant_id": new_id(),
        "direction": MediaDirection.OUTBOUND,
        "kind": MediaKind.IMAGE,
        "status": MediaStatus.STORED,
        "mime_type": "image/png",
        "sha256": DIGEST,
    }
    return Media(**(values | changes))


@pytest.mark.parametrize(
    ("mime_type", "kind", "most"),
    [
        ("image/png", MediaKind.IMAGE, 5 * MEBIBYTE),
        ("IMAGE/JPEG", MediaKind.IMAGE, 5 * MEBIBYTE),
        ("audio/ogg; codecs=opus", MediaKind.AUDIO, 16 * MEBIBYTE),
        ("video/3gpp", MediaKind.VIDEO, 16 * MEBIBYTE),
        ("image/webp", MediaKind.STICKER, 500 * 1024),
        ("application/pdf", MediaKind.DOCUMENT, 100 * MEBIBYTE),
    ],
)
def test_types_have_the_kind_and_limit_that_meta_gives_them(mime_type, kind, most) -> None:
    assert sendable(mime_type) == (kind, most)
    ensure_fits(kind, 1, b"")
    with pytest.raises(MediaTooLarge):
        ensure_fits(kind, most + 1, b"")


@pytest.mark.parametrize("mime_type", ["", "image/gif", "text/html", "x", "image/png\r\nA: b"])
def test_other_types_are_refused(mime_type) -> None:
    with pytest.raises(MediaTypeRefused):
        sendable(mime_type)


def test_a_sticker_that_moves_may_be_larger() -> None:
    moving = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0"
    still = moving[:20] + b"\0" + moving[21:]

    ensure_fits(MediaKind.STICKER, 400 * 1024, moving)
    for head in (still, b"RIFF\0\0\0\0WEBPVP8 ", b""):
        with pytest.raises(MediaTooLarge):
            ensure_fits(MediaKind.STICKER, 400 * 1024, head)


@pytest.mark.parametrize(
    ("kind", "mime_type", "may"),
    [
        (MediaKind.IMAGE, "image/jpeg", True),
        (MediaKind.IMAGE, "text/html", False),
        (MediaKind.STICKER, "image/webp", True),
        (MediaKind.AUDIO, "audio/ogg; codecs=opus", True),
        (MediaKind.VIDEO, "audio/ogg", False),
        (MediaKind.DOCUMENT, "application/zip", True),
    ],
)
def test_a_message_brings_files_of_its_kind(kind, mime_type, may) -> None:
    assert may_carry(kind, mime_type) is may


def test_a_type_without_its_parameters() -> None:
    assert essence("Audio/OGG; codecs=opus") == "audio/ogg"
    assert essence(None) == essence("not a type") == essence("a/b/c") == ""


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (MediaStatus.PENDING, MediaNotReady),
        (MediaStatus.FAILED, MediaNotAvailable),
        (MediaStatus.REMOVING, MediaNotAvailable),
        (MediaStatus.REMOVED, MediaNotAvailable),
    ],
)
def test_only_a_stored_file_can_be_read(status, error) -> None:
    with pytest.raises(error):
        _ = media(status=status).key
    assert media().key.sha256 == DIGEST


def test_a_file_can_be_sent_in_messages_of_its_kind_and_as_a_document() -> None:
    media().ensure_sendable(MediaKind.IMAGE, "image.id")
    media().ensure_sendable(MediaKind.DOCUMENT, "document.id")
    with pytest.raises(InvalidMedia):
        media().ensure_sendable(MediaKind.STICKER, "sticker.id")
    for other in (
        media(direction=MediaDirection.INBOUND),
        media(status=MediaStatus.REMOVED),
    ):
        with pytest.raises(MediaNotFound) as refused:
            other.ensure_sendable(MediaKind.IMAGE, "image.id")
        assert refused.value.field == "image.id"


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("menu.pdf", "menu.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\files\\a.doc", "a.doc"),
        ("a\r\nb\0c.pdf", "abc.pdf"),
        ("..", None),
        ("", None),
        ("x" * 500 + ".pdf", "x" * (MAX_FILENAME_CHARACTERS - 4) + ".pdf"),
    ],
)
def test_a_name_keeps_neither_directories_nor_control_characters(given_name, kept) -> None:
    assert safe_filename(given_name) == kept


@given(st.text(max_size=400))
def test_no_name_leads_anywhere(name) -> None:
    kept = safe_filename(name)

    assert kept is None or (0 < len(kept) <= MAX_FILENAME_CHARACTERS and kept.isprintable())
    assert kept is None or not set(kept) & set("/\\\0\r\n")


def test_a_digest_is_read_in_hexadecimal_and_in_base64() -> None:
    assert digest_of(DIGEST.hex()) == digest_of(DIGEST.hex().upper()) == DIGEST
    assert digest_of(base64.b64encode(DIGEST).decode()) == DIGEST
    for value in (None, 5, "", "abc", "\N{SNOWMAN}" * 44, base64.b64encode(b"short").decode()):
        assert digest_of(value) is None


@pytest.mark.parametrize("given_id", ["", "../../me", "1/2", "a?b", "1" * 257, "\N{DIGIT ONE}\n"])
def test_what_cannot_be_an_id_of_meta_never_gets_into_an_address(given_id) -> None:
    assert not is_media_id(given_id)
    assert is_media_id("1234567890")


def test_the_place_of_a_file_is_made_of_ids_and_its_digest_alone() -> None:
    key = MediaKey(new_id(), new_id(), DIGEST)

    digest = DIGEST.hex()
    assert key.parts == (str(key.tenant_id), digest[:2], f"{digest}-{key.media_id}")


@pytest.mark.parametrize("failure", MediaFailure)
def test_waits_grow_and_end_with_the_life_of_the_file(failure) -> None:
    rng, week = Random(1), timedelta(days=7)
    waits = [
        wait_after(failure, attempts=number, until_end=week, rng=rng) for number in range(1, 40)
    ]

    final = {
        MediaFailure.TOO_LARGE: 1,
        MediaFailure.WRONG_TYPE: 3,
        MediaFailure.GONE: 3,
        MediaFailure.WRONG_SIZE: 5,
        MediaFailure.WRONG_HASH: 5,
        MediaFailure.REFUSED: 5,
    }.get(failure, 40)
    assert [wait is None for wait in waits] == [number >= final for number in range(1, 40)]
    assert all(wait <= timedelta(hours=1) for wait in waits if wait is not None)
    assert wait_after(failure, attempts=1, until_end=timedelta(), rng=rng) is None


def test_files_of_ours_in_a_message_are_found_wherever_meta_takes_an_id() -> None:
    one, two = new_id(), new_id()
    carousel = MessageContent.template(
        "a",
        "en_US",
        [
            {
                "type": "carousel",
                "cards": [
                    {
                        "card_index": 0,
                        "components": [
                            {
                                "type": "header",
                                "parameters": [{"type": "video", "video": {"id": str(two)}}],
                            }
                        ],
                    }
                ],
            },
            {"type": "header", "parameters": [{"type": "image", "image": {"id": str(one)}}]},
        ],
    )
    path = "template.components[0].cards[0].components[0].parameters[0].video.id"

    assert {(used.media_id, used.kind) for used in carousel.uploads} == {
        (one, MediaKind.IMAGE),
        (two, MediaKind.VIDEO),
    }
    assert path in {used.field for used in carousel.uploads}
    sent = carousel.with_uploads({one: "111", two: "222"}).canonical_json()
    assert '"111"' in sent
    assert '"222"' in sent
    assert str(one) not in sent


def test_a_moving_picture_in_a_templates_header_is_a_film_of_ours() -> None:
    ours = new_id()
    gif = {"type": "gif", "gif": {"id": str(ours.int)}}
    content = MessageContent.template("a", "en_US", [{"type": "header", "parameters": [gif]}])

    assert [(used.media_id, used.kind) for used in content.uploads] == [(ours, MediaKind.VIDEO)]
    assert '"gif":{"id":"111"}' in content.with_uploads({ours: "111"}).canonical_json()


@pytest.mark.parametrize(
    "content",
    [
        MessageContent.image(id="1234567890"),
        MessageContent.image(link="https://example.com/a.png"),
        MessageContent.text("01936f2e-0000-7000-8000-000000000001"),
    ],
)
def test_metas_ids_and_links_are_left_alone(content) -> None:
    assert content.uploads == ()
    assert content.with_uploads({new_id(): "1"}) == content


def test_the_rest_of_a_message_stays_as_it_is() -> None:
    ours = new_id()
    content = MessageContent.image(id=str(ours), caption="Look").replying_to("wamid.x")

    sent = content.with_uploads({ours: "111"})

    assert sent == MessageContent.image(id="111", caption="Look").replying_to("wamid.x")
