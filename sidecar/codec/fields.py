"""Which header fields belong to one connection, and which must not be dropped by it."""

# RFC 9110 7.6.1 and RFC 9113 8.2.2: read here, never forwarded as they are.
# `host` is among them because it lives in the head's authority.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)

# What a decoder looks at instead of just passing it on.
SPECIAL = HOP_BY_HOP | {b"content-length"}

# What says where a body ends, to whoever has names as CGI and WSGI do: "_" for "-".
MISSPELLED = frozenset((b"content_length", b"transfer_encoding"))

# Fields that `Connection` may name without effect: a client must not be able to
# strip what the next hop decides by, or what a proxy before us said of the client.
PROTECTED = frozenset(
    (
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"idempotency-key",
        b"via",
        b"x-real-ip",
    )
)
# And all whose names begin so.
_PROTECTED_PREFIXES = (b"x-forwarded-", b"x-sidecar-")

# Fields that may not come in a trailer section (RFC 9110 6.5.1): framing, routing
# and authentication. What we say of a failure may: a gRPC call ends with it.
_NOT_IN_TRAILERS = (
    HOP_BY_HOP
    | PROTECTED
    | {b"set-cookie", b"trailer", b"www-authenticate", b"proxy-authenticate"}
    | {b"x-sidecar-attempt", b"x-sidecar-priority"}
)


def protected(name: bytes) -> bool:
    """Whether a field goes on even where `Connection` names it."""
    return name in PROTECTED or name.startswith(_PROTECTED_PREFIXES)


def fit_for_trailers(name: bytes) -> bool:
    """Whether a field may come in a trailer section."""
    name = name.replace(b"_", b"-")  # as variables of CGI and WSGI both are spelled alike
    return name not in _NOT_IN_TRAILERS and not name.startswith(b"x-forwarded-")
