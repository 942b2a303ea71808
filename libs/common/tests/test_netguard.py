"""Where a tenant's settings may not lead."""

from ipaddress import ip_network

import pytest

from postern_common.netguard import NetGuard

INSIDE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.1.2.3", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::127.0.0.1", "2001:db8::1",
    "fec0::1", "3fff::1", "192.0.0.8", "2606:4700::1%eth0", "fe80::1%1",
]  # fmt: skip


@pytest.mark.spec("R12")
@pytest.mark.parametrize("address", INSIDE)
def test_an_inside_address_is_refused_in_every_form(address):
    assert not NetGuard().permits(address)


@pytest.mark.spec("R12")
@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_is_permitted(address):
    assert NetGuard().permits(address)


@pytest.mark.spec("R12")
def test_the_operator_may_allow_a_network_and_nothing_beside_it():
    guard = NetGuard([ip_network("127.0.0.0/8"), ip_network("fd00:1::/32")])
    assert guard.permits("127.0.0.1")
    assert guard.permits("::ffff:127.0.0.1")
    assert guard.permits("fd00:1::5")
    assert not guard.permits("10.0.0.1")
    assert not guard.permits("fd00:2::5")
