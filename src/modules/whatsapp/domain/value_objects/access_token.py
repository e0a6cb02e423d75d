"""The token that speaks for a channel at Meta."""

import re

from shared.kernel.errors import InvalidInput
from shared.kernel.secret import Secret

MAX_TOKEN_CHARACTERS = 2048  # Meta's are some 200; a header of this size still passes every proxy
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


class InvalidAccessToken(InvalidInput):
    """Not an access token; the detail speaks of its length only."""

    code = "invalid_access_token"
    title = "The access token is not valid"


class AccessToken(Secret):
    """An access token of the Cloud API; never shows itself and is always fit for a header.

    Raises `InvalidAccessToken` for an empty or over-long text and for anything that is not
    visible ASCII: a line break that was pasted along would split the header.
    """

    __slots__ = ()

    def __init__(self, text: str) -> None:
        if not text:
            raise InvalidAccessToken("the access token is empty")
        if len(text) > MAX_TOKEN_CHARACTERS:
            raise InvalidAccessToken(f"{len(text)} characters, at most {MAX_TOKEN_CHARACTERS}")
        if _VISIBLE_ASCII.fullmatch(text) is None:
            raise InvalidAccessToken(
                f"{len(text)} characters, some of them spaces, line breaks or not ASCII"
            )
        super().__init__(text)
