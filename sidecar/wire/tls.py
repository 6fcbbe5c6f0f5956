"""TLS settings: contexts for handshakes, made of files and made again when those change.

A context is never changed: connections keep the one that they began with. May import
ssl, sidecar.identity.
"""

import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sidecar.identity.clients import Names
from sidecar.identity.errors import HandshakeError
from sidecar.identity.files import load_authorities, load_pair, read
from sidecar.identity.x509 import Validity

# Forward secrecy and authenticated encryption: what RFC 9113 9.2.2 leaves of TLS 1.2.
# Those of TLS 1.3 are all of that kind.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_ALPN = {"http1": ["http/1.1"], "http2": ["h2"]}


class Dated(NamedTuple):
    """A file of a setting, with what it holds: "certificate" or "authorities"."""

    path: str
    kind: str
    validity: Validity


class Loaded(NamedTuple):
    """What a setting's files gave. `contexts` by protocol; a server has one, under "".
    `pem` are authorities, key and certificate for grpcio's health checks, which take no context."""

    contexts: dict[str, ssl.SSLContext]
    dated: tuple[Dated, ...]
    pem: tuple[bytes | None, bytes | None, bytes | None] = (None, None, None)


class ServerTls:
    """A listener's TLS. FileError when a file cannot be used.

    With `client_ca` clients are asked for a certificate of those authorities, and
    turned away without one unless that is `optional`; one that is shown has to be
    good in either case. `timeout` bounds a handshake, in seconds.
    """

    def __init__(
        self, cert: str, key: str, client_ca: str | None = None, *, optional: bool = False, timeout: float = 10.0
    ) -> None:
        self.cert = cert
        self.key = key
        self.ca = client_ca
        self.timeout = timeout
        self._optional = optional
        self.loaded = self.load()

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that it is made of."""
        return tuple(path for path in (self.cert, self.key, self.ca) if path is not None)

    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self.loaded.contexts[""]

    def load(self) -> Loaded:
        """Read the files. What came out is in use once it is set as `loaded`."""
        context = _context(ssl.PROTOCOL_TLS_SERVER)
        # Ours first, as theirs leaves it to us: HTTP/2 where both can.
        context.set_alpn_protocols(["h2", "http/1.1"])
        dated = [Dated(self.cert, "certificate", load_pair(context, self.cert, self.key))]
        if self.ca is not None:
            dated.append(Dated(self.ca, "authorities", load_authorities(context, self.ca)))
            context.verify_mode = ssl.CERT_OPTIONAL if self._optional else ssl.CERT_REQUIRED
            # Who resumes a session is not verified again, and its certificate may have ended
            # since. TLS 1.2 cannot be told so: see `has_outlived`.
            context.num_tickets = 0
        return Loaded({"": context}, tuple(dated))


class ClientTls:
    """A cluster's TLS. FileError when a file cannot be used.

    `ca` None trusts the system's authorities. `verify` False trusts anybody: it has to
    be spelled out in the YAML. `server_name` is asked for (SNI) and verified; "" for
    the endpoint's host. With `sans` the server's certificate has to hold one of those
    names instead.
    """

    def __init__(
        self,
        ca: str | None,
        cert: str | None,
        key: str | None,
        server_name: str,
        verify: bool,
        sans: Iterable[str] = (),
    ) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.server_name = server_name
        self._verify = verify
        self._names = Names(sans)
        self.loaded = Loaded({}, ())
        self.loaded = self.load()

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that it is made of."""
        return tuple(path for path in (self.ca, self.cert, self.key) if path is not None)

    def context(self, protocol: str) -> ssl.SSLContext:
        """For the next handshake, in "http1" or "http2". Made when first asked for: one
        with the system's authorities takes a megabyte."""
        contexts = self.loaded.contexts
        context = contexts.get(protocol)
        if context is None:
            context = contexts[protocol] = self._make(protocol)[0]
        return context

    def load(self) -> Loaded:
        """Read the files. What came out is in use once it is set as `loaded`."""
        made = {protocol: self._make(protocol) for protocol in self.loaded.contexts or ("http1",)}
        ca, key, cert = (None if path is None else read(path) for path in (self.ca, self.key, self.cert))
        contexts = {protocol: context for protocol, (context, _) in made.items()}
        return Loaded(contexts, next(iter(made.values()))[1], (ca, key, cert))

    def _make(self, protocol: str) -> tuple[ssl.SSLContext, tuple[Dated, ...]]:
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(_ALPN[protocol])
        dated: list[Dated] = []
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca is None:
            context.load_default_certs()
        else:
            dated.append(Dated(self.ca, "authorities", load_authorities(context, self.ca)))
        if self._names.patterns:
            context.check_hostname = False
            context.sslobject_class = _checking(self._names)
        if self.cert is not None and self.key is not None:
            dated.append(Dated(self.cert, "certificate", load_pair(context, self.cert, self.key)))
        return context, tuple(dated)


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # One handshake for each connection: renegotiations cost the server more than the client.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Whom the file names is trusted, whether it is a root or not (as in Go, and Python from 3.13).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _checking(names: Names) -> type[ssl.SSLObject]:
    """A TLS object whose handshake fails when the peer has none of these names. In the
    context, so that it holds for whoever uses that: traffic and health checks."""

    class Checking(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            found = names_of(self)
            if not names.fit(found):
                held = ", ".join(value for _, value in found[:4]) or "none"
                raise HandshakeError("wrong_name", f"none of its names is one of tls.sans: {held}")

    return Checking


def has_outlived(tls: Any, now: Callable[[], float] = time.time) -> bool:
    """Whether a resumed session is of a client whose certificate has ended since."""
    if not tls.session_reused:
        return False
    try:
        found = tls.getpeercert()
    except (ValueError, ssl.SSLError):
        return True
    return bool(found) and ssl.cert_time_to_seconds(found["notAfter"]) <= now()


def names_of(tls: Any) -> tuple[tuple[str, str], ...]:
    """The subject alternative names that a peer's verified certificate holds."""
    try:
        found = tls.getpeercert() or {}
    except (ValueError, ssl.SSLError):
        return ()  # names that are no text, or no certificate
    return tuple(found.get("subjectAltName", ()))
