"""A string that does not show itself."""

import hmac
from typing import Never

from shared.kernel.errors import SecretUnreadable


class Secret:
    """A secret text that never appears in repr, str, format, logs, pickles, copies or JSON.

    `reveal()` is the only way to the text, so that every use can be found by searching for it.
    Comparison takes constant time; a secret is deliberately unhashable.
    """

    __slots__ = ("__text",)
    __hash__ = None  # type: ignore[assignment]  # a digest in a set or dict would be an oracle

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """The secret text itself; pass it on at once and keep no copy."""
        return self.__text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__text.encode(), other.reveal().encode())

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}('**********')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> Never:
        raise TypeError(f"{type(self).__name__} refuses to be pickled or copied")


class UnreadableSecret(Secret):
    """A secret that lies in the store and does not open: `reveal` raises why, the rest is silent.

    So one value that was tampered with, or whose key is gone, spoils nothing that lies beside it.
    """

    __slots__ = ("cause",)

    def __init__(self, cause: SecretUnreadable) -> None:
        super().__init__("")
        self.cause = cause

    def reveal(self) -> Never:
        """Raise what was wrong with it."""
        raise type(self.cause)(self.cause.detail)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None

    def __bool__(self) -> bool:
        return True
