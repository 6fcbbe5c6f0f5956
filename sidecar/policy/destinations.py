"""Where forward mode may go beyond its routes: names by the `allow` list, and of what
they resolve to only public addresses, or those that the list names.

A name says nothing about where it leads: whoever can make the service ask for a URL
(server-side request forgery) points a name of his own at 169.254.169.254. So the
address decides, and it is the connector's part to connect to the one that was asked
about here. Pure: resolving is `sidecar.wire.destinations`.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

IP = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Why a destination is denied, in `sidecar_forward_denied_total`.
NAME: Final = "name"
SPELLING: Final = "spelling"
PUBLIC: Final = "public"

# The IANA special-purpose address registries (RFC 6890), and where clouds keep what
# a machine may know of itself. The first network that holds an address names it.
_KINDS: Final = tuple(
    (ip_network(network), kind)
    for kind, networks in (
        # AWS, Azure, Google (and ECS, EKS); Alibaba; Oracle; Azure's WireServer, which
        # hands out certificates from an address that looks public; AWS over IPv6.
        (
            "metadata",
            "169.254.169.254/32 169.254.170.2/32 169.254.170.23/32 100.100.100.200/32 192.0.0.192/32 "
            "168.63.129.16/32 fd00:ec2::254/128 fd00:ec2::23/128 fd20:ce::254/128",
        ),
        ("unspecified", "0.0.0.0/8 ::/128"),  # 0.0.0.0 connects to this machine
        ("loopback", "127.0.0.0/8 ::1/128"),
        ("link_local", "169.254.0.0/16 fe80::/10"),
        ("private", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10"),
        ("shared", "100.64.0.0/10"),
        ("multicast", "224.0.0.0/4 ff00::/8"),
        (
            "reserved",
            "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 "
            # Teredo (2001::/32) among the protocol assignments; documentation.
            "2001::/23 2001:db8::/32 3fff::/20",
        ),
    )
    for network in networks.split()
)
KINDS: Final = (NAME, SPELLING, *dict.fromkeys(kind for _, kind in _KINDS))

# RFC 4291 2.4: everything else is not handed out.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
# RFC 6052 2.1, RFC 3056 2: an IPv4 address in an IPv6 one, at a distance from the end.
_EMBEDDED: Final = ((IPv6Network("64:ff9b::/96"), 0), (IPv6Network("2002::/16"), 80))

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# WHATWG URL 3.5 "ends in a number": getaddrinfo takes such names for IPv4 addresses,
# in octal, hexadecimal and with parts left out: 0177.1, 0x7f000001, 2130706433.
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PORTS: Final = 65535


class Entry(NamedTuple):
    """One line of `allow`: a network or, when that is None, a name's pattern; port 0 = every port."""

    network: Network | None
    pattern: str
    port: int


def parse_entry(text: str) -> Entry:
    """`host`, `*.suffix`, `*`, an address, or a network (10.0.0.0/8, fd00::/8), each
    perhaps with `:port` ([fd00::/8]:443); ValueError says what is wrong."""
    text = text.lower()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address with a port is written [::1]:443")
        return Entry(_network(host), "", _port(rest[1:]) if rest else 0)
    if "/" in text:
        base, _, rest = text.partition("/")
        bits, colon, port = rest.partition(":")
        return Entry(_network(f"{base}/{bits}"), "", _port(port) if colon else 0)
    host, colon, port = text.rpartition(":")
    if not colon:
        host = text
    elif ":" in host:
        raise ValueError("an IPv6 address is written [::1] or [::1]:443")
    number = _port(port) if colon else 0
    if re.fullmatch(r"[0-9.]+", host):
        return Entry(_network(host), "", number)
    return Entry(None, host, number)


def _network(text: str) -> Network:
    if "%" in text:
        raise ValueError("an address with a zone cannot be told from one without")
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{text} names one address of a network: write {ip_network(text, strict=False)}") from None
        raise ValueError(f"{text} is no address and no network") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= _PORTS):
        raise ValueError(f"{text!r} is no port: 1 to {_PORTS}")
    return int(text)


def kind_of(address: IP) -> str:
    """PUBLIC, or why an address is not for everybody."""
    for network, kind in _KINDS:
        if address.version == network.version and address in network:
            return kind
    if isinstance(address, IPv4Address):
        return PUBLIC
    inner = embedded(address)
    if inner is not None:
        return kind_of(inner)
    return PUBLIC if address in _GLOBAL_UNICAST else "reserved"


def embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to: mapped, NAT64, 6to4."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    for network, shift in _EMBEDDED:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return None


class Destinations:
    """One listener's `allow`. `denied` counts by reason (KINDS)."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        entries = [parse_entry(text) for text in allow]
        self._networks = [(entry.network, entry.port) for entry in entries if entry.network is not None]
        self._patterns = [(entry.pattern, entry.port) for entry in entries if entry.network is None]
        self.denied = dict.fromkeys(KINDS, 0)

    def admits(self, host: str, port: int) -> bool:
        """Whether a client may ask for this: lower case, IPv6 in brackets. What a name
        leads to is asked about by `permits`, once it is resolved."""
        why = self._refusal(host, port)
        if why:
            self.denied[why] += 1
        return not why

    def _refusal(self, host: str, port: int) -> str:
        if not 0 < port <= _PORTS:
            return SPELLING
        literal = _literal(host)
        if literal is not None:
            if self._names(literal, port):
                return ""
            kind = kind_of(literal)
            if kind != PUBLIC:
                return kind
        elif len(host) > 253 or not _HOST_NAME.fullmatch(host) or _NUMERIC.fullmatch(host):
            return SPELLING
        return "" if any(_fits(pattern, wanted, host, port) for pattern, wanted in self._patterns) else NAME

    def permits(self, addresses: Iterable[str], port: int) -> list[str]:
        """Those of a name's addresses that may be connected to, in their order."""
        found: list[str] = []
        kinds: list[str] = []
        for text in addresses:
            # RFC 4007 11: the zone belongs to this machine, not to the address.
            address = ip_address(text.partition("%")[0])
            kind = kind_of(address)
            if kind == PUBLIC or self._names(address, port):
                found.append(text)
            else:
                kinds.append(kind)
        if kinds and not found:
            self.denied[kinds[0]] += 1
        return found

    def _names(self, address: IP, port: int) -> bool:
        """Whether an entry names this address or its network: in its own form, or the
        IPv4 address inside of it."""
        inner = embedded(address) if isinstance(address, IPv6Address) else None
        return any(
            (not wanted or wanted == port) and (address in network or (inner is not None and inner in network))
            for network, wanted in self._networks
        )


def _literal(host: str) -> IP | None:
    """The address that a host spells out in its one usual form, else None."""
    try:
        if host.startswith("[") and host.endswith("]") and "%" not in host:
            return IPv6Address(host[1:-1])
        # No leading zeros, four parts: what inet_aton(3) takes beyond that is refused.
        return IPv4Address(host)
    except ValueError:
        return None


def _fits(pattern: str, wanted: int, host: str, port: int) -> bool:
    if wanted and wanted != port:
        return False
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))
