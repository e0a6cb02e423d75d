"""What a store gives of a file, held against what is known of it: all of it, or an error."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.domain.media import MediaNotAvailable


@dataclass(slots=True)
class WholeFile:
    """Passes on `pieces`, and raises MediaNotAvailable where they are not `size` bytes together.

    `trouble` is what kept it from giving all, for those who pass it through a client that makes an
    error of its own of it.
    """

    pieces: AsyncIterator[bytes]
    size: int | None
    trouble: MediaStoreUnavailable | MediaNotAvailable | None = field(default=None, init=False)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces, once."""
        given = 0
        try:
            async for piece in self.pieces:
                given += len(piece)
                self._ensure(self.size is None or given <= self.size)
                yield piece
            self._ensure(self.size is None or given == self.size)
        except (MediaStoreUnavailable, MediaNotAvailable) as trouble:
            self.trouble = trouble
            raise

    def _ensure(self, is_right: bool) -> None:  # noqa: FBT001  # a condition, as in an assertion
        if not is_right:
            raise MediaNotAvailable("What the store has is not the file")
