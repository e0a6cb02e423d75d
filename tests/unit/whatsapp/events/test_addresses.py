"""Where Tellwire may knock on behalf of a tenant."""

import pytest

from whatsapp.domain.events import AddressPolicy
from whatsapp.domain.events.addresses import InvalidNetworks

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"]
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",  # noqa: S104  # no server listens here
    "169.254.169.254", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
    "2002:7f00:1::", "2001:0:1::1", "2001:db8::1", "fec0::1", "feff::1",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::a9fe:a9fe",
    "example.com", "", "127.1", "0x7f000001",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_admitted(address) -> None:
    assert AddressPolicy().admits(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_everything_else_is_not(address) -> None:
    assert not AddressPolicy().admits(address)


def test_an_operator_may_allow_networks_and_those_alone() -> None:
    policy = AddressPolicy.parse("10.0.0.0/8, 127.0.0.1/32,fd00::/8")

    assert all(map(policy.admits, ["10.9.9.9", "::ffff:10.0.0.1", "127.0.0.1", "fd00::5"]))
    assert not any(map(policy.admits, ["127.0.0.2", "192.168.0.1", "::1"]))
    assert policy.allows_plain_http
    assert not AddressPolicy().allows_plain_http


@pytest.mark.parametrize("text", ["ten", "10.0.0.1/8", "10.0.0.0/99"])
def test_a_network_that_cannot_be_read_is_refused(text) -> None:
    with pytest.raises(InvalidNetworks):
        AddressPolicy.parse(text)
