"""sidecar.policy.destinations: which names and addresses forward mode may reach."""

import ipaddress
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.policy.destinations import KINDS, PUBLIC, Destinations, embedded, kind_of, parse_entry

# What no client may reach by itself, and why.
DENIED = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("10.0.0.1", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.1", "shared"),
    ("100.127.255.255", "shared"),
    ("100.100.100.200", "metadata"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "metadata"),
    ("169.254.0.1", "link_local"),
    ("169.254.169.254", "metadata"),
    ("169.254.170.2", "metadata"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "reserved"),
    ("192.0.0.192", "metadata"),
    ("192.0.2.1", "reserved"),
    ("192.88.99.1", "reserved"),
    ("192.168.1.1", "private"),
    ("198.18.0.1", "reserved"),
    ("198.51.100.1", "reserved"),
    ("203.0.113.1", "reserved"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::127.0.0.1", "reserved"),  # IPv4-compatible, RFC 4291 2.5.5.1
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:169.254.169.254", "metadata"),
    ("::ffff:10.0.0.1", "private"),
    ("::ffff:0:127.0.0.1", "reserved"),  # IPv4-translated, RFC 2765
    ("64:ff9b::127.0.0.1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "metadata"),
    ("64:ff9b:1::8.8.8.8", "reserved"),  # RFC 8215: within one network
    ("100::1", "reserved"),
    ("2001:0:7f00:1::", "reserved"),  # Teredo
    ("2001:db8::1", "reserved"),
    ("2002:7f00:1::1", "loopback"),  # 6to4
    ("2002:a9fe:a9fe::", "metadata"),
    ("2002:a00:1::1", "private"),
    ("3fff::1", "reserved"),
    ("5f00::1", "reserved"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "metadata"),
    ("fd20:ce::254", "metadata"),
    ("fdff::1", "private"),
    ("fe80::1", "link_local"),
    ("fec0::1", "private"),
    ("ff02::1", "multicast"),
]
REACHED = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1"]
REACHED += ["2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]


@pytest.mark.parametrize(("address", "kind"), DENIED)
def test_what_is_not_public_is_denied_by_its_address(address: str, kind: str) -> None:
    everybody = Destinations(["*", "*.internal", "localhost"])
    assert everybody.permits([address], 443) == []
    assert everybody.denied[kind] == 1
    assert not everybody.admits(f"[{address}]" if ":" in address else address, 443)
    assert everybody.denied[kind] == 2


@pytest.mark.parametrize("address", REACHED)
def test_what_is_public_is_reached(address: str) -> None:
    everybody = Destinations(["*:443"])
    assert everybody.permits([address], 443) == [address]
    assert everybody.admits(f"[{address}]" if ":" in address else address, 443)
    assert not any(everybody.denied.values())


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:443", "10.1.2.3"),
        ("10.0.0.0/8:443", "10.1.2.3"),
        ("169.254.169.254", "169.254.169.254"),
        ("127.0.0.0/8", "::ffff:127.0.0.1"),
        ("10.0.0.0/8", "64:ff9b::10.1.2.3"),
        ("::1", None),
        ("[::1]", "::1"),
        ("[::1]:443", "::1"),
        ("fd00::/8", "fd00::1"),
        ("[fd00::/8]:443", "fd00::1"),
        ("[fe80::]/10", None),
        ("fe80::/10", "fe80::1%lo"),
    ],
)
def test_an_entry_that_names_the_address_or_its_network_lets_it_through(entry: str, address: str | None) -> None:
    if address is None:
        with pytest.raises(ValueError, match="written"):
            parse_entry(entry)
        return
    assert Destinations([entry]).permits([address], 443) == [address]
    port = parse_entry(entry).port
    if port:
        assert Destinations([entry]).permits([address], 80) == []


def test_a_network_admits_its_addresses_and_no_names() -> None:
    inside = Destinations(["10.0.0.0/8:443"])
    assert inside.admits("10.1.2.3", 443)
    assert not inside.admits("10.1.2.3", 80)
    assert not inside.admits("11.1.2.3", 443)
    assert not inside.admits("db.internal", 443)
    assert inside.permits(["10.1.2.3"], 443) == ["10.1.2.3"]


def test_of_several_addresses_only_the_permitted_are_left_in_order() -> None:
    mixed = Destinations(["*", "10.0.0.1"])
    assert mixed.permits(["127.0.0.1", "8.8.8.8", "::1", "10.0.0.1", "10.0.0.2"], 80) == ["8.8.8.8", "10.0.0.1"]
    assert not any(mixed.denied.values())


# Names for 127.0.0.1 and others that getaddrinfo knows, and what is no host at all.
SPELLINGS = [
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "0X7F.1",
    "2130706433",
    "017700000001",
    "0",
    "0x",
    "1.2.3.4.5",
    "127.0.0.01",
    "127.0.0.1.",
    "127.000.000.001",
    "[::1%25lo]",
    "[::1%lo]",
    "[fe80::1%1]",
    "[::ffff:127.1]",
    "[127.0.0.1]",
    "[v1.x]",
    "[::1",
    "::1",
    "%31%32%37.0.0.1",
    "127%2e0.0.1",
    "local%68ost",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "a b",
    "a..b",
    ".a",
    "a_-",
    "",
    "*",
    "*.org",
    "x" * 254,
    "a.0x1",
    "a.1",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_an_odd_spelling_is_no_host(host: str) -> None:
    everybody = Destinations(["*", "0.0.0.0/0", "::/0"])
    assert not everybody.admits(host.lower(), 80)
    assert everybody.denied["spelling"] == 1


@pytest.mark.parametrize("port", [0, -1, 65536, 1 << 70])
def test_a_port_is_one(port: int) -> None:
    assert not Destinations(["*"]).admits("example.org", port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("10.0.0.0/33", "no address and no network"),
        ("10.0.0.0/8:0", "no port"),
        ("10.0.0.0/8:99999999999999999999", "no port"),
        ("127.1", "no address"),
        ("fe80::1%eth0/64", "zone"),
        ("[fe80::1%eth0]", "zone"),
        ("[::1", "written"),
        ("[::1]443", "written"),
        ("::1", "written"),
        ("a:x", "no port"),
    ],
)
def test_what_is_no_entry(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_entry(text)


@given(st.ip_addresses())
def test_an_ipv6_form_of_a_denied_address_is_denied_too(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if isinstance(address, ipaddress.IPv6Address):
        inner = embedded(address)
        assert inner is None or kind_of(address) == kind_of(inner)
        return
    number = int(address)
    forms = (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80)
    for form in forms:
        assert kind_of(ipaddress.IPv6Address(form)) == kind_of(address)


@given(st.ip_addresses())
def test_what_python_knows_as_private_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if isinstance(address, ipaddress.IPv6Address) and embedded(address) is not None:
        return
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert kind_of(address) != PUBLIC


def test_every_reason_is_counted_from_the_start() -> None:
    assert tuple(Destinations().denied) == KINDS
    assert set(Destinations().denied.values()) == {0}


@given(st.text(alphabet="0123456789abcdefxX.-", min_size=1, max_size=20))
@example("0x7f.1")
@example("127.1")
@example("0177.0.0.1")
@example("8.8.8.8")
def test_what_a_resolver_reads_as_a_number_is_admitted_in_its_usual_form_alone(host: str) -> None:
    """inet_aton is what getaddrinfo asks first."""
    try:
        number = socket.inet_aton(host)
    except OSError:
        return
    if Destinations(["*"]).admits(host.lower(), 80):
        assert socket.inet_ntoa(number) == host
        assert kind_of(ipaddress.IPv4Address(number)) == PUBLIC
