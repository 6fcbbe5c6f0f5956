"""TLS towards endpoints."""

import ssl


class ClientTls:
    """A cluster's TLS: one context per ALPN protocol, made once.

    `verify` False trusts anybody: it has to be spelled out in the YAML. Files are
    PEM; OSError or ssl.SSLError when they cannot be used.
    """

    def __init__(self, ca: str | None, cert: str | None, key: str | None, server_name: str, verify: bool) -> None:
        self.server_name = server_name
        self._contexts = {
            protocol: _context(ca, cert, key, verify, alpn)
            for protocol, alpn in (("http1", "http/1.1"), ("http2", "h2"))
        }

    def context(self, protocol: str) -> ssl.SSLContext:
        """The context for "http1" or "http2"."""
        return self._contexts[protocol]


def _context(ca: str | None, cert: str | None, key: str | None, verify: bool, alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([alpn])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context
