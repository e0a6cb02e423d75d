"""Which addresses Tellwire may be sent to by somebody who only names a URL.

A tenant's endpoint must not make Tellwire knock at what stands beside it: the loopback, private
networks, the metadata service of a cloud. The address that is connected to is what counts, not
the name: names change between being looked up and being used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from shared.kernel.errors import InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_TRANSLATED: Final = ip_network("64:ff9b::/96")
_NEVER_PUBLIC: Final[Sequence[Network]] = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's wire server, which lies among public addresses
        "192.0.0.0/24",  # assigned to protocols; in one cloud the metadata service is there
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # locally translated IPv4
        "2001::/32",  # Teredo: the IPv4 address inside is somebody's choice
        "2002::/16",  # 6to4: as above
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local, as private networks were called once
    )
)


class InvalidNetworks(InvalidInput):
    """A list of networks that cannot be read."""

    code = "invalid_networks"
    title = "Networks are written like 10.0.0.0/8, separated by commas"


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could mean the same machine by `address`."""
    real = _unwrapped(address)
    if any(real.version == network.version and real in network for network in _NEVER_PUBLIC):
        return False
    return real.is_global and not (
        real.is_multicast or real.is_reserved or real.is_unspecified or real.is_loopback
    )


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Public addresses, and those of the networks that the operator allows besides."""

    allowed: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "AddressPolicy":
        """The policy for networks separated by commas; raises InvalidNetworks."""
        try:
            return cls(tuple(ip_network(one.strip()) for one in text.split(",") if one.strip()))
        except ValueError:
            raise InvalidNetworks from None

    @property
    def allows_plain_http(self) -> bool:
        """Whether endpoints may do without TLS: only where there are networks of the operator's."""
        return bool(self.allowed)

    def admits(self, host: str) -> bool:
        """Whether the literal address `host` may be connected to; False for what is none."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        real = _unwrapped(address)
        if any(real.version == network.version and real in network for network in self.allowed):
            return True
        return is_public(address)
