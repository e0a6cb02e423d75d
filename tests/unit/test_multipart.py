"""Forms with files are read the same however they are cut into pieces, and bounded."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.infrastructure.http.errors import BadRequest
from shared.infrastructure.http.multipart import MAX_PARTS, Form, boundary_of

BOUNDARY = b"x1y2"


async def pieces_of(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def written(*parts: tuple[str, bytes], boundary: bytes = BOUNDARY) -> bytes:
    body = b"".join(
        b"--" + boundary + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
        for head, content in parts
    )
    return body + b"--" + boundary + b"--\r\n"


def field(name: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"'


def read(body: bytes, size: int = 7, boundary: bytes = BOUNDARY) -> list:
    async def every() -> list:
        form = Form(pieces_of(body, size), boundary)
        found = []
        while (part := await form.next_part()) is not None:
            found.append((part, b"".join([piece async for piece in form.content()])))
        return found

    return asyncio.run(every())


@given(
    contents=st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"\r\n", b"\r\n--x1y", b"--x1y2", b"\r\n--x1y2"[:-1] * 3, b"\r" * 9]),
        max_size=4,
    ),
    size=st.integers(1, 50),
)
def test_contents_come_back_however_the_body_is_cut(contents: list[bytes], size: int) -> None:
    kept = [one for one in contents if b"\r\n--x1y2" not in b"\r\n" + one]
    body = written(*((field(f"f{n}"), one) for n, one in enumerate(kept)))

    found = read(body, size)

    assert [(part.name, content) for part, content in found] == [
        (f"f{n}", one) for n, one in enumerate(kept)
    ]


@given(body=st.binary(max_size=300), size=st.integers(1, 40))
def test_noise_is_refused_and_nothing_else_happens(body: bytes, size: int) -> None:
    with pytest.raises(BadRequest):
        read(body, size)


@given(cut=st.integers(0, 200), size=st.integers(1, 40))
def test_a_form_that_ends_early_is_refused(cut: int, size: int) -> None:
    body = written((field("a"), b"1" * 50), (field("b"), b"2" * 50))
    whole = body.index(b"--x1y2--") + len(b"--x1y2--")
    with pytest.raises(BadRequest):
        read(body[: min(cut, whole - 1)], size)


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name="file"; filename="a b.png"', "a b.png"),
        ("form-data; name=file; filename=a.png", "a.png"),
        ('form-data; name="file"; filename="sa%22y.png"', 'sa"y.png'),
        (r'form-data; name="file"; filename="sa\"y.png"', 'sa"y.png'),
        ('form-data; name="file"; filename="übung.png"', "übung.png"),
        ("form-data; name=\"file\"; filename*=UTF-8''%C3%BCbung.png", "übung.png"),
        ('form-data; filename=""; name="file"', ""),
        ('form-data; name="file"', None),
    ],
)
def test_a_file_has_its_name(disposition: str, filename: str | None) -> None:
    head = f"Content-Disposition: {disposition}\r\nContent-Type: image/png"
    ((part, content),) = read(written((head, b"PNG")))
    assert (part.name, part.filename, part.content_type) == ("file", filename, "image/png")
    assert content == b"PNG"


@pytest.mark.parametrize(
    "head",
    [
        "Content-Type: text/plain",
        'Content-Disposition: attachment; name="a"',
        "Content-Disposition: form-data",
        "no header at all",
        'Content-Disposition: form-data; name="a"\r\nX: ' + "x" * 9000,
    ],
)
def test_a_part_without_a_sound_head_is_refused(head: str) -> None:
    with pytest.raises(BadRequest):
        read(written((head, b"1")))


def test_there_is_a_limit_to_parts_and_fields() -> None:
    with pytest.raises(BadRequest):
        read(written(*[(field("a"), b"1")] * (MAX_PARTS + 1)))

    async def value() -> str:
        form = Form(pieces_of(written((field("a"), b"1" * 9000)), 100), BOUNDARY)
        await form.next_part()
        return await form.value()

    with pytest.raises(BadRequest):
        asyncio.run(value())


def test_little_of_a_file_is_held_at_a_time() -> None:
    async def largest() -> int:
        form = Form(pieces_of(written((field("a"), b"1" * 1_000_000)), 4096), BOUNDARY)
        await form.next_part()
        return max([len(piece) async for piece in form.content()])

    assert asyncio.run(largest()) <= 2 * 4096


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ("multipart/form-data;boundary=abc; charset=utf-8", b"abc"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=" + "x" * 71, None),
        ("application/json; boundary=abc", None),
    ],
)
def test_the_boundary_is_in_the_content_type(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary
