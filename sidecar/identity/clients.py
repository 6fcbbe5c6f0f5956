"""Who may come in: by the names in a client's certificate, and by where it comes from.

Pure: what a connection's peer is was found out by `sidecar.wire`. May import the
standard library alone.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network
# A subject alternative name as `ssl` tells it: ("DNS", "web.internal"), ("URI", "spiffe://...").
Name = tuple[str, str]

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_DNS: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*:[!-)+-~]+\*?")  # printable ASCII, "*" at the end alone
# SPIFFE-ID 2: a trust domain in lower case and a path, neither port nor query.
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]+(?:/[A-Za-z0-9._-]+)*(?:/\*)?")
# Source addresses whose verdict is remembered; strangers choose them, so bounded.
_REMEMBERED: Final = 1024


class Peer(str):
    """Who is at the other end of a connection: its address as text, `host:port` or
    `unix`, and the names that its verified certificate holds."""

    __slots__ = ("names",)
    names: tuple[Name, ...]

    def __new__(cls, address: str, names: Iterable[Name] = ()) -> "Peer":
        self = super().__new__(cls, address)
        self.names = tuple(names)
        return self


class Names:
    """Patterns for subject alternative names (RFC 5280 4.2.1.6); one that fits is enough.

    `spiffe://domain/path` and other URIs, which may end in `/*`; `host.name` and
    `*.suffix`, which takes names of any depth below it.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(parse_name(pattern) for pattern in patterns)
        uris = [pattern for pattern in self.patterns if ":" in pattern]
        hosts = [pattern for pattern in self.patterns if ":" not in pattern]
        self._uris = frozenset(pattern for pattern in uris if not pattern.endswith("*"))
        self._prefixes = tuple(pattern[:-1] for pattern in uris if pattern.endswith("*"))
        self._hosts = frozenset(pattern for pattern in hosts if not pattern.startswith("*"))
        self._suffixes = tuple(pattern[1:] for pattern in hosts if pattern.startswith("*"))

    def fit(self, names: Iterable[Name]) -> bool:
        """Whether one of a certificate's names is one of ours."""
        names = tuple(names)
        uris = [value for kind, value in names if kind == "URI"]
        if len(uris) > 1:
            # X509-SVID 2: a certificate with a SPIFFE ID has no second URI.
            uris = [value for value in uris if not value.startswith("spiffe://")]
        if any(value in self._uris or self._is_below(value) for value in uris):
            return True
        hosts = [value.lower() for kind, value in names if kind == "DNS"]
        return any(value in self._hosts or value.endswith(self._suffixes) for value in hosts)

    def _is_below(self, value: str) -> bool:
        return any(value.startswith(prefix) and len(value) > len(prefix) for prefix in self._prefixes)


def parse_name(text: str) -> str:
    """A pattern of Names; ValueError says what is wrong with it."""
    if ":" not in text:
        lower = text.lower()
        if not _DNS.fullmatch(lower):
            raise ValueError(f"{text!r} is neither a host name nor a URI")
        return lower
    if text.startswith("spiffe:"):
        if not _SPIFFE.fullmatch(text):
            raise ValueError(f"{text!r} is no SPIFFE ID: spiffe://trust.domain/path, which may end in /*")
    elif not _URI.fullmatch(text):
        raise ValueError(f"{text!r} is no URI; a * stands at its end alone")
    if text.endswith("*") and not text.endswith("/*"):
        # Else spiffe://prod* would take spiffe://prod.evil.example/ too.
        raise ValueError(f"{text!r}: the * stands for whole segments, after a /")
    return text


def parse_network(text: str) -> Network:
    """A network in CIDR form, or one address; ValueError says what is wrong with it."""
    try:
        network = ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{text} names one address of a network: write {ip_network(text, strict=False)}") from None
        raise ValueError(f"{text!r} is no network: 10.0.0.0/8, fd00::/8, or one address") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        raise ValueError(f"{text} is IPv4: write {mapped}/{network.prefixlen - 96}")
    return network


class Clients:
    """One `clients` section. What is given must hold: a name that fits, an address
    inside one of the networks. None = not asked for."""

    def __init__(self, san: Iterable[str] | None = None, cidr: Iterable[str] | None = None) -> None:
        self.names = None if san is None else Names(san)
        self.networks = None if cidr is None else tuple(parse_network(text) for text in cidr)
        self._seen: dict[str, bool] = {}

    def admits(self, peer: str) -> bool:
        """Whether this peer may come in."""
        if not self.admits_address(peer):
            return False
        return self.names is None or (isinstance(peer, Peer) and self.names.fit(peer.names))

    def admits_address(self, peer: str) -> bool:
        """Whether it may by where it comes from, which is known before TLS. A unix
        socket is nowhere: no network holds it."""
        if self.networks is None:
            return True
        host = peer.rpartition(":")[0].strip("[]")
        known = self._seen.get(host)
        if known is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            known = self._seen[host] = self._is_inside(host)
        return known

    def _is_inside(self, host: str) -> bool:
        try:
            # RFC 4007 11: the zone belongs to this machine, not to the address.
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # IPv4 that came in through a socket of both
        return any(address.version == network.version and address in network for network in self.networks or ())


def admitted(guards: tuple[Clients, ...], peer: str) -> bool:
    """Whether every one of them lets this peer in."""
    return all(guard.admits(peer) for guard in guards)
