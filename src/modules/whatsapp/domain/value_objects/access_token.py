"""The token that speaks for a channel at Meta."""

import re
from typing import Never

from shared.kernel.errors import Conflict, InvalidInput, SecretUnreadable, ensure_type
from shared.kernel.secret import Secret

MAX_TOKEN_CHARACTERS = 2048  # Meta's are some 200; a header of this size still passes every proxy
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


class InvalidAccessToken(InvalidInput):
    """Not an access token; the detail speaks of its length only."""

    code = "invalid_access_token"
    title = "The access token is not valid"


class AccessTokenUnreadable(Conflict):
    """The channel's stored token does not open; the detail names the reason's code."""

    code = "access_token_unreadable"
    title = "The channel's stored access token cannot be read: rotate the token, then resume"


class AccessToken(Secret):
    """An access token of the Cloud API; never shows itself and is always fit for a header.

    Raises `InvalidAccessToken` for an empty or over-long text and for anything that is not
    visible ASCII: a line break that was pasted along would split the header.
    """

    __slots__ = ()

    def __init__(self, text: str) -> None:
        ensure_type(text, str, InvalidAccessToken)
        if not text:
            raise InvalidAccessToken("the access token is empty")
        if len(text) > MAX_TOKEN_CHARACTERS:
            raise InvalidAccessToken(f"{len(text)} characters, at most {MAX_TOKEN_CHARACTERS}")
        if _VISIBLE_ASCII.fullmatch(text) is None:
            raise InvalidAccessToken(
                f"{len(text)} characters, some of them spaces, line breaks or not ASCII"
            )
        super().__init__(text)

    @property
    def is_readable(self) -> bool:
        """Whether `reveal` gives a token."""
        return True


class UnreadableToken(AccessToken):
    """Stands for a stored token that does not open; `reveal` raises AccessTokenUnreadable."""

    __slots__ = ("cause",)

    def __init__(self, cause: SecretUnreadable) -> None:
        super().__init__("unreadable")
        self.cause = cause

    @property
    def is_readable(self) -> bool:
        """It is not."""
        return False

    def reveal(self) -> Never:
        """Raise AccessTokenUnreadable with the reason's code."""
        raise AccessTokenUnreadable(f"The stored access token cannot be read ({self.cause.code})")

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]  # as every secret
