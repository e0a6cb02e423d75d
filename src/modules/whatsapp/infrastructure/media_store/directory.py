"""Media in a directory: written beside its place and moved there when it is whole.

Several machines may share one directory over a file system with atomic renames. A file is never
changed once it has its name, and its name has its SHA-256 in it.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Final

from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.domain.media import MediaKey, MediaNotAvailable
from whatsapp.infrastructure.media_store.draft import Draft

CHUNK_BYTES: Final = 256 * 1024
DRAFTS: Final = ".drafts"
_PRIVATE: Final = 0o700


class _DirectoryDraft(Draft):
    def __init__(self, file: Any, root: Path) -> None:
        super().__init__(file)
        self._root = root
        self._path = Path(file.name)

    async def keep(self, key: MediaKey, *, mime_type: str) -> None:  # noqa: ARG002  # a directory has no place for types
        """Make it durable, then give it its name; whoever reads sees all of it or nothing."""
        with _told():
            await asyncio.to_thread(self._keep, self._root.joinpath(*key.parts))

    def _keep(self, target: Path) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        _make_directories(self._root, target.parent)
        self._path.replace(target)
        _sync_directory(target.parent)


class DirectoryMediaStore:
    """Files below `root`, private to the account that runs Tellwire."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @asynccontextmanager
    async def drafting(self) -> AsyncGenerator[_DirectoryDraft]:
        """A new draft; what is not kept when the block is left is gone."""
        with _told():
            file = await asyncio.to_thread(self._open_draft)
        try:
            yield _DirectoryDraft(file, self._root)
        finally:
            await asyncio.to_thread(_discard, file)

    @asynccontextmanager
    async def reading(
        self, key: MediaKey, *, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The bytes from `start` on, in pieces; MediaNotAvailable where there are none."""
        path = self._root.joinpath(*key.parts)
        with _told():
            file = await asyncio.to_thread(self._open, path)
        try:
            yield _pieces(file, start, length)
        finally:
            await asyncio.to_thread(file.close)

    async def remove(self, key: MediaKey) -> None:
        """Remove the bytes; nothing where there are none."""
        with _told():
            await asyncio.to_thread(self._remove, self._root.joinpath(*key.parts))

    async def sweep(self, older_than: timedelta) -> int:
        """Remove drafts that dead processes left behind; gives how many."""
        with _told():
            return await asyncio.to_thread(self._sweep, older_than)

    def _open_draft(self) -> Any:
        drafts = self._root / DRAFTS
        _make_directories(self._root, drafts)
        return NamedTemporaryFile(dir=drafts, delete=False)

    def _open(self, path: Path) -> IO[bytes]:
        try:
            return path.open("rb")
        except FileNotFoundError:
            self._ensure_there()
            raise MediaNotAvailable("The store has lost it") from None

    def _remove(self, path: Path) -> None:
        try:
            path.unlink()
        except FileNotFoundError:
            self._ensure_there()

    def _ensure_there(self) -> None:
        """Raise where the whole store is missing, and not one file.

        Whoever ever kept a file made the directory of drafts. Without it this is not the place, but
        what is left of it while a shared directory is not mounted.
        """
        if not (self._root / DRAFTS).is_dir():
            raise MediaStoreUnavailable from None

    def _sweep(self, older_than: timedelta) -> int:
        drafts, swept = self._root / DRAFTS, 0
        # File times are the wall clock's, and so is what they are compared with.
        newest = time.clock_gettime(time.CLOCK_REALTIME) - older_than.total_seconds()
        for path in drafts.iterdir() if drafts.is_dir() else ():
            # One that was kept or thrown away since it was listed is none of a dead process.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < newest:
                    path.unlink()
                    swept += 1
        return swept


@contextmanager
def _told() -> Generator[None]:
    """Says of trouble with files only that there is some: paths are nobody's business."""
    try:
        yield
    except OSError:
        raise MediaStoreUnavailable from None


async def _pieces(file: IO[bytes], start: int, length: int | None) -> AsyncIterator[bytes]:
    if start:
        await asyncio.to_thread(file.seek, start)
    left = length
    while left is None or left > 0:
        wanted = CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)
        with _told():
            piece = await asyncio.to_thread(file.read, wanted)
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def _make_directories(root: Path, directory: Path) -> None:
    """Make what is missing down to `directory`, each made durable in the one above it."""
    root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    for part in reversed([directory, *directory.parents]):
        if part.is_relative_to(root) and part != root and not part.is_dir():
            part.mkdir(mode=_PRIVATE, exist_ok=True)
            _sync_directory(part.parent)


def _sync_directory(directory: Path) -> None:
    """Names are durable when the directory that holds them is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(file: Any) -> None:
    # Closing writes what is left, for which a full disk has no room; the name goes in any case.
    with suppress(OSError):
        file.close()
    with _told():
        Path(file.name).unlink(missing_ok=True)
