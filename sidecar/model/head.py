"""The heads of a request and of a response, in neither HTTP version's dress."""

from sidecar.model.headers import Header, Headers


class RequestHead:
    """A request line (or pseudo-header fields) and its header fields.

    `authority` is the host and port that the client asked for; the headers hold
    no `host`. `upgrade` names the protocol of an HTTP/1.1 upgrade that may pass
    (RFC 9110 7.8), or is empty. `length` is the declared body length in bytes,
    0 for no body, or None when only the end of the stream tells.

    What an HTTP/2 codec knows already: `fields`, the whole header list as it came,
    which goes on as it is where nobody changed the head (a change makes a new
    head); `grpc`, whether it is a gRPC call, or None where nobody looked yet; and
    `grpc_timeout`, the value of that field, or None.
    """

    __slots__ = (
        "authority",
        "fields",
        "grpc",
        "grpc_timeout",
        "headers",
        "length",
        "method",
        "path",
        "scheme",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        path: bytes,
        authority: bytes,
        headers: Headers,
        scheme: bytes = b"http",
        length: int | None = 0,
        upgrade: bytes = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.authority = authority
        self.headers = headers
        self.scheme = scheme
        self.length = length
        self.upgrade = upgrade
        self.fields: tuple[Header, ...] | None = None
        self.grpc: bool | None = None
        self.grpc_timeout: bytes | None = None

    def __repr__(self) -> str:
        return f"RequestHead({self.method!r} {self.authority!r} {self.path!r} {self.headers!r})"


class ResponseHead:
    """A status line (or `:status`) and its header fields.

    `length` is the declared body length in bytes, or None when only the end of
    the stream tells. HTTP/1.1's phrase is not kept: it says nothing (RFC 9112 4).
    `fields` is the whole header list of an HTTP/2 response that nobody changed.
    """

    __slots__ = ("fields", "headers", "length", "status")

    def __init__(self, status: int, headers: Headers, length: int | None = None) -> None:
        self.status = status
        self.headers = headers
        self.length = length
        self.fields: tuple[Header, ...] | None = None

    def __repr__(self) -> str:
        return f"ResponseHead({self.status} {self.headers!r})"
