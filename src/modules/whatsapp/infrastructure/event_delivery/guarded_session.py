"""An HTTP session that connects to no address which the policy does not admit.

The address is judged when the socket is made, after names were resolved and for literal addresses
alike: a name that leads somewhere else a moment later leads nowhere.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from whatsapp.domain.events import AddressPolicy

CONNECT_TIMEOUT_SECONDS: Final = 5.0
RESOLVER_THREADS: Final = 32
"""Looking up a name blocks a thread; names of servers that do not answer hold up no others."""


class AddressNotAllowed(OSError):
    """The policy does not admit the address; no packet was sent."""


class ThreadedNames(AbstractResolver):
    """Looks names up by the system's own resolver, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of `host`."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Let go of the threads; one that still waits for an answer is left to itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def guarded_session(policy: AddressPolicy) -> AsyncGenerator[aiohttp.ClientSession]:
    """A session for endpoints of tenants: no cookies, no proxy, nothing decompressed."""

    def admitted(address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = address
        if not policy.admits(str(target[0])):
            raise AddressNotAllowed("not an address that webhooks may go to")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        # The worker bounds how many requests there are; one endpoint must not use up a limit here.
        limit=0,
        resolver=ThreadedNames(),
        socket_factory=admitted,
        ttl_dns_cache=10,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield session
