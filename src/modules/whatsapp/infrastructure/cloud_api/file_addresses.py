"""Where a channel's token may go for a file: to Meta's machines, so never into our own network.

Which host has a file is told by the Graph API. A name could lead to a machine beside Tellwire all
the same, so that what a name was resolved to is judged, and is what is connected to.
"""

import ipaddress
import socket

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from whatsapp.domain.events.addresses import is_public


class PublicNames(AbstractResolver):
    """Leads to public addresses alone, and to wherever `neighbour`, the Graph API itself, is.

    That may be a simulator or a proxy beside Tellwire, as the operator says.
    """

    def __init__(self, neighbour: str) -> None:
        self._neighbour = neighbour
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Where `host` is; raises OSError where that is nowhere that a token may go."""
        found = await self._names.resolve(host, port, family)
        if host == self._neighbour:
            return found
        public = [one for one in found if is_public_address(one["host"])]
        if not public:
            raise OSError("the name leads to no public address")
        return public

    async def close(self) -> None:
        """Nothing is held."""
        await self._names.close()


def is_public_address(host: str) -> bool:
    """Whether this is a literal address of the open internet; False for every name."""
    try:
        return is_public(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return False


def is_name(host: str) -> bool:
    """Whether the host is looked up: everything but literal addresses, in whatever notation."""
    return ":" not in host and not host.replace(".", "").isdigit()
