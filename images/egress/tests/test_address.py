# SPDX-License-Identifier: Apache-2.0
"""Which hosts and addresses are permitted: the table behind the promise against request forgery."""

from ipaddress import ip_address

import pytest

from nimblet_egress.address import Scope, bypasses_proxy, host_matches, permitted, scope_of
from nimblet_egress.policy import AllowRule

FORBIDDEN_BY_DEFAULT = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "0.0.0.0",  # noqa: S104
    "224.0.0.1",
    "255.255.255.255",
    "192.0.0.192",
    "198.18.0.1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "5f00::1",
]
PUBLIC = ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("text", FORBIDDEN_BY_DEFAULT)
def test_a_bare_rule_opens_no_special_address(text: str) -> None:
    assert not permitted([AllowRule(host="h")], ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_a_bare_rule_opens_public_addresses(text: str) -> None:
    assert permitted([AllowRule(host="h")], ip_address(text))


def test_no_rule_opens_nothing() -> None:
    assert not permitted([], ip_address("1.1.1.1"))


@pytest.mark.parametrize("text", ["10.0.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"])
def test_allow_private_opens_private_ranges(text: str) -> None:
    assert permitted([AllowRule(host="h", allow_private=True)], ip_address(text))


@pytest.mark.parametrize("text", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "224.0.0.1", "0.0.0.0"])  # noqa: S104
def test_allow_private_opens_neither_loopback_nor_metadata(text: str) -> None:
    assert not permitted([AllowRule(host="h", allow_private=True)], ip_address(text))


def test_a_cidr_opens_its_range_and_nothing_else() -> None:
    rule = AllowRule(host="h", cidr="10.1.0.0/16", allow_private=True)
    assert permitted([rule], ip_address("10.1.2.3"))
    assert permitted([rule], ip_address("::ffff:10.1.2.3"))
    assert not permitted([rule], ip_address("10.2.0.1"))
    assert not permitted([rule], ip_address("1.1.1.1"))


@pytest.mark.parametrize("text", ["224.0.0.1", "0.0.0.0", "255.255.255.255"])  # noqa: S104
def test_not_even_a_cidr_opens_multicast_or_unspecified(text: str) -> None:
    assert not permitted([AllowRule(host="h", cidr="0.0.0.0/0")], ip_address(text))


def test_unlisted_ipv6_space_is_not_public() -> None:
    assert scope_of(ip_address("4000::1")) is Scope.LOCAL


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("huggingface.co", "huggingface.co", True),
        ("HuggingFace.co", "huggingface.co", True),
        ("huggingface.co", "evil-huggingface.co", False),
        ("huggingface.co", "huggingface.co.evil.test", False),
        ("*.hf.co", "cdn.hf.co", True),
        ("*.hf.co", "a.b.hf.co", True),
        ("*.hf.co", "hf.co", False),
        ("*.hf.co", "evilhf.co", False),
    ],
)
def test_host_patterns(pattern: str, host: str, matches: bool) -> None:
    assert host_matches(pattern, host) is matches


@pytest.mark.parametrize(
    ("entry", "host", "bypasses"),
    [
        ("mirror.test", "mirror.test", True),
        (".svc", "mirror.models.svc", True),
        ("*.svc", "mirror.models.svc", True),
        ("*", "any.test", True),
        ("10.0.0.0/8", "10.1.1.1", True),
        ("10.0.0.0/8", "mirror.test", False),
        ("mirror.test", "other.test", False),
    ],
)
def test_no_proxy_entries(entry: str, host: str, bypasses: bool) -> None:
    assert bypasses_proxy([entry], host) is bypasses
