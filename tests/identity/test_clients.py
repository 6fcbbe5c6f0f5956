"""sidecar.identity.clients: names in certificates and source addresses."""

import pytest

from sidecar.identity.clients import Clients, Names, Peer, admitted, parse_name, parse_network


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("web.internal", ("DNS", "web.internal"), True),
        ("web.internal", ("DNS", "WEB.Internal"), True),
        ("WEB.internal", ("DNS", "web.internal"), True),
        ("web.internal", ("DNS", "a.web.internal"), False),
        ("web.internal", ("DNS", "web.internal.evil.example"), False),
        ("web.internal", ("URI", "web.internal"), False),
        ("*.internal", ("DNS", "web.internal"), True),
        ("*.internal", ("DNS", "a.b.internal"), True),
        ("*.internal", ("DNS", "internal"), False),
        ("*.internal", ("DNS", "evilinternal"), False),
        # What a certificate holds is a name, not a pattern.
        ("web.internal", ("DNS", "*.internal"), False),
        ("spiffe://td/ns/a", ("URI", "spiffe://td/ns/a"), True),
        ("spiffe://td/ns/a", ("URI", "spiffe://td/ns/A"), False),
        ("spiffe://td/ns/a", ("URI", "spiffe://td/ns/a/b"), False),
        ("spiffe://td/ns/a", ("DNS", "spiffe://td/ns/a"), False),
        ("spiffe://td/*", ("URI", "spiffe://td/ns/a"), True),
        ("spiffe://td/*", ("URI", "spiffe://td/"), False),
        ("spiffe://td/*", ("URI", "spiffe://td.evil.example/ns/a"), False),
        ("spiffe://td/ns/*", ("URI", "spiffe://td/nsx/a"), False),
        ("https://a.example/b", ("URI", "https://a.example/b"), True),
        ("web.internal", ("email", "web.internal"), False),
        ("10.0.0.1", ("IP Address", "10.0.0.1"), False),
    ],
)
def test_a_name_against_a_pattern(pattern: str, name: tuple[str, str], fits: bool) -> None:
    assert Names([pattern]).fit([name]) is fits


def test_one_name_of_several_is_enough() -> None:
    names = Names(["spiffe://td/a", "web.internal"])
    assert names.fit([("DNS", "other"), ("DNS", "web.internal")])
    assert not names.fit([])


def test_a_certificate_with_two_uris_has_no_spiffe_id() -> None:
    two = [("URI", "spiffe://td/a"), ("URI", "spiffe://td/b")]
    assert not Names(["spiffe://td/*"]).fit(two)
    assert Names(["https://x/"]).fit([*two, ("URI", "https://x/")])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "*.",
        "a..b",
        "a.*.b",
        "a b",
        "spiffe://",
        "spiffe://TD/a",
        "spiffe://td:80/a",
        "spiffe://td/a?b",
        "spiffe://td*",
        "spiffe://td/a*",
        "spiffe://*/a",
        "https://x/*/y",
        "https://x*",
        "https://x\x00y",
    ],
)
def test_patterns_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_name(text)


@pytest.mark.parametrize(
    ("network", "peer", "inside"),
    [
        ("10.0.0.0/8", "10.1.2.3:5", True),
        ("10.0.0.0/8", "11.0.0.0:5", False),
        ("10.0.0.0/8", "[::ffff:10.1.2.3]:5", True),
        ("10.0.0.0/8", "[::ffff:0b00:1]:5", False),
        ("0.0.0.0/0", "[2001:db8::1]:5", False),
        ("::/0", "10.1.2.3:5", False),
        ("::/0", "[::ffff:10.1.2.3]:5", False),
        ("fd00::/8", "[fd12::1]:5", True),
        ("fe80::/10", "[fe80::1%eth0]:5", True),
        ("192.0.2.7", "192.0.2.7:5", True),
        ("192.0.2.7", "192.0.2.8:5", False),
        ("::1", "[::1]:5", True),
        ("0.0.0.0/0", "unix", False),
        ("0.0.0.0/0", "nonsense", False),
    ],
)
def test_an_address_against_a_network(network: str, peer: str, inside: bool) -> None:
    clients = Clients(cidr=[network])
    assert [clients.admits(peer), clients.admits(peer)] == [inside, inside]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("::ffff:10.0.0.0/104", "write 10.0.0.0/8"),
        ("10.0.0.0/33", "is no network"),
        ("10.0.0", "is no network"),
        ("a.example", "is no network"),
        ("", "is no network"),
    ],
)
def test_networks_that_cannot_be(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_network(text)


def test_both_have_to_hold_when_both_are_given() -> None:
    clients = Clients(san=["web.internal"], cidr=["10.0.0.0/8"])
    name = [("DNS", "web.internal")]
    assert clients.admits(Peer("10.0.0.1:5", name))
    assert not clients.admits(Peer("11.0.0.1:5", name))
    assert not clients.admits(Peer("10.0.0.1:5"))
    assert not clients.admits("10.0.0.1:5")  # no certificate
    assert clients.admits_address("10.0.0.1:5")


def test_every_guard_has_to_agree() -> None:
    outer, inner = Clients(cidr=["10.0.0.0/8"]), Clients(cidr=["10.1.0.0/16"])
    assert admitted((), "anybody")
    assert admitted((outer, inner), "10.1.0.1:5")
    assert not admitted((outer, inner), "10.2.0.1:5")


def test_a_peer_is_its_address() -> None:
    peer = Peer("10.0.0.1:5", [("DNS", "a")])
    assert (peer, peer.names) == ("10.0.0.1:5", (("DNS", "a"),))
    assert f"{peer}" == "10.0.0.1:5"


def test_what_is_remembered_of_strangers_is_bounded() -> None:
    clients = Clients(cidr=["10.0.0.0/8"])
    for number in range(5000):
        assert not clients.admits(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}:1")
    assert len(clients._seen) <= 1024
