"""Where a notification may be sent: the whole Internet, and where it was asked for private networks; nothing else."""

from __future__ import annotations

import pytest

from jit_service.domain.language import ip_address

GLOBAL = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"]
PRIVATE = ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
NOWHERE = [
    *("0.0.0.0", "169.254.169.254", "192.0.0.192", "192.88.99.1", "192.0.2.1", "198.18.0.1", "224.0.0.1"),  # noqa: S104
    *("239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "2001::1", "100::1"),
    *("3fff::1", "5f00::1", "64:ff9b:1::808:808"),
    # An inner IPv4 address in every disguise: link-local ones.
    *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::169.254.169.254", "::ffff:169.254.169.254"),
    *("2606:4700::5efe:a9fe:a9fe", "2606:4700::200:5efe:169.254.169.254"),
]
# Where clouds serve credentials, beyond what is link-local: Alibaba, Azure, Oracle, AWS, Google, Scaleway, Akamai.
METADATA = [
    *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd00:0ec2:0::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe"),
    *("fd00:100::100:200", "fd00:42::42", "fd00:a9fe:a9fe::1"),
    *("::ffff:100.100.100.200", "64:ff9b::100.100.100.200", "2002:6464:64c8::", "::100.100.100.200"),
    *("fd00::5efe:100.100.100.200", "fd00::200:5efe:a83f:8110", "64:ff9b::168.63.129.16", "::ffff:192.0.0.192"),
]


@pytest.mark.parametrize("literal", GLOBAL)
def test_a_global_address_may_be_reached(literal: str) -> None:
    assert ip_address.is_global(literal)
    assert not ip_address.is_private(literal)


@pytest.mark.parametrize("literal", PRIVATE)
def test_a_private_address_is_one_and_is_not_global(literal: str) -> None:
    assert ip_address.is_private(literal)
    assert not ip_address.is_global(literal)


@pytest.mark.parametrize("literal", NOWHERE + METADATA)
def test_what_is_neither_is_never_reached(literal: str) -> None:
    assert not ip_address.is_global(literal)
    assert not ip_address.is_private(literal)


@pytest.mark.parametrize("literal", ["2002:a00:1::", "64:ff9b::10.0.0.1", "::10.0.0.1", "2606:4700::5efe:10.0.0.1"])
def test_a_private_address_in_disguise_is_not_global(literal: str) -> None:
    assert not ip_address.is_global(literal)


def test_only_this_machine_is_loopback() -> None:
    assert all(ip_address.is_loopback(literal) for literal in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"))
    assert not any(ip_address.is_loopback(literal) for literal in ("10.0.0.1", "::2", "8.8.8.8"))


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "[::1]"])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        ip_address.is_global(text)


def test_of_the_lowest_addresses_only_two_stand_for_themselves() -> None:
    inner = [str(ip_address.innermost(literal)) for literal in ("::", "::1", "::2")]

    assert inner == ["::", "::1", "0.0.0.2"]


@pytest.mark.parametrize("literal", ["64:ff9b::8.8.4.5", "2606:4700::5efe:8.8.4.5", "::8.8.4.5"])
def test_an_inner_address_is_the_lowest_32_bits(literal: str) -> None:
    assert str(ip_address.innermost(literal)) == "8.8.4.5"
