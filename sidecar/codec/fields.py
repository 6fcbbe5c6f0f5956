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

# Fields that `Connection` may name without effect: a client must not be able to
# strip what the next hop decides by.
PROTECTED = frozenset(
    (
        b"authorization",
        b"content-length",
        b"content-type",
        b"cookie",
        b"forwarded",
        b"host",
        b"idempotency-key",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-sidecar-attempt",
        b"x-sidecar-attempts",
        b"x-sidecar-error",
        b"x-sidecar-retry-skipped",
    )
)

# Fields that may not come in a trailer section (RFC 9110 6.5.1): framing, routing
# and authentication.
NOT_IN_TRAILERS = HOP_BY_HOP | PROTECTED | {b"content-encoding", b"content-range", b"trailer"}
