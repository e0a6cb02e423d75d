"""A file that is being written: counted and hashed on the way, in a thread."""

import asyncio
import hashlib
from typing import IO

from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.domain.media_type import HEAD_BYTES


class Draft:
    """Writes to `file`; what becomes of it is for those who inherit."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0
        self._head = b""

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the bytes so far."""
        return self._hash.digest()

    @property
    def head(self) -> bytes:
        """The first bytes, by which formats are told apart."""
        return self._head

    async def write(self, chunk: bytes) -> None:
        """Append; raises MediaStoreUnavailable where there is no room."""
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + chunk)[:HEAD_BYTES]
        # In a thread, since disks stand still at times and everything else must not.
        try:
            await asyncio.to_thread(self._append, chunk)
        except OSError:
            raise MediaStoreUnavailable from None

    def _append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self._size += len(chunk)
