"""Media in a bucket of an S3-compatible store, by the package of the extra `tellwire[s3]`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryFile
from typing import IO, Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from shared.kernel.secret import Secret
from whatsapp.application.media_ports import MediaStoreUnavailable
from whatsapp.domain.media import MediaKey, MediaNotAvailable
from whatsapp.infrastructure.media_store.draft import Draft

CHUNK_BYTES: Final = 256 * 1024
_SILENCE: Final = timedelta(seconds=60)
"""So long the store may take to begin an answer, and between two pieces of it."""
_WHOLE: Final = timedelta(hours=6)
"""Of one request with its file: whoever reads a large one may read slowly."""
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
_RETRY_FOR: Final = timedelta(seconds=30)
_NO_BUCKET, _NO_KEY = "NoSuchBucket", "NoSuchKey"
"""S3's words for what is missing: it answers 404 for a bucket as for an object in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Which bucket, where, and with whose keys; without keys AWS's own environment decides."""

    bucket: str
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: Secret | None = None
    prefix: str | None = None


class _S3Draft(Draft):
    def __init__(self, file: IO[bytes], store: S3Store) -> None:
        super().__init__(file)
        self._store = store

    async def keep(self, key: MediaKey, *, mime_type: str) -> None:
        """Put the whole file; an object is there when all of it is, and never in part."""
        try:
            await asyncio.to_thread(self._file.seek, 0)  # Which writes what is left.
            await obstore.put_async(
                self._store, _name(key), self._file, attributes={"Content-Type": mime_type}
            )
        except (BaseError, OSError):
            raise MediaStoreUnavailable from None


class S3MediaStore:
    """Objects below the prefix, named as files in a directory are; signed by SigV4."""

    def __init__(self, settings: S3Settings) -> None:
        self._store = S3Store(settings.bucket, **_options(settings))

    @asynccontextmanager
    async def drafting(self) -> AsyncGenerator[_S3Draft]:
        """A new draft in a local file without a name: if the process dies it is gone."""
        try:
            file = await asyncio.to_thread(TemporaryFile)
        except OSError:
            raise MediaStoreUnavailable from None
        try:
            yield _S3Draft(file, self._store)
        finally:
            with suppress(OSError):  # Of what nobody kept, for which there was no room.
                await asyncio.to_thread(file.close)

    @asynccontextmanager
    async def reading(
        self, key: MediaKey, *, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The bytes from `start` on, in pieces; MediaNotAvailable where there are none."""
        range_: Any = {"offset": start} if length is None else (start, start + length)
        options: Any = {"range": range_} if start or length is not None else {}
        try:
            found = await obstore.get_async(self._store, _name(key), options=options)
        except FileNotFoundError as missing:
            if _NO_BUCKET in str(missing):
                raise MediaStoreUnavailable from None
            raise MediaNotAvailable("The store has lost it") from None
        except (BaseError, OSError):
            raise MediaStoreUnavailable from None
        yield _pieces(found)

    async def remove(self, key: MediaKey) -> None:
        """Remove the object; nothing where there is none."""
        try:
            await obstore.delete_async(self._store, _name(key))
        except (BaseError, OSError) as error:
            # S3 itself says nothing of an object that is missing; some that speak like it do.
            if _NO_KEY not in str(error):
                raise MediaStoreUnavailable from None

    async def sweep(self, older_than: timedelta) -> int:  # noqa: ARG002  # drafts have no names here
        """Nothing is ever left behind but parts of uploads, which the bucket's rules expire."""
        return 0


async def _pieces(found: Any) -> AsyncIterator[bytes]:
    try:
        async for piece in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(piece)
    except (BaseError, OSError):
        raise MediaStoreUnavailable from None


def _name(key: MediaKey) -> str:
    return "/".join(key.parts)


def _options(settings: S3Settings) -> dict[str, Any]:
    secret = settings.secret_access_key
    endpoint = settings.endpoint
    given = {
        "endpoint": endpoint,
        "region": settings.region,
        "access_key_id": settings.access_key_id,
        "secret_access_key": None if secret is None else secret.reveal(),
        "prefix": settings.prefix,
    }
    return {
        **{name: value for name, value in given.items() if value is not None},
        "client_options": {
            "timeout": _WHOLE,
            "read_timeout": _SILENCE,
            "connect_timeout": _CONNECT_TIMEOUT,
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
        },
        "retry_config": {"max_retries": 3, "retry_timeout": _RETRY_FOR},
    }
