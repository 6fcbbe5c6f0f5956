"""Which requests may be repeated although they may have run (RFC 9110 9.2.2)."""

from collections.abc import Iterable

from sidecar.model.head import RequestHead
from sidecar.model.headers import get

IDEMPOTENT_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class Idempotency:
    """Methods that are idempotent by definition, by key, or because they are listed.

    `listed` holds gRPC methods (`/pkg.Service/Method`, `/pkg.Service/*`, `/pkg.*`)
    and HTTP ones (`POST /path`, `POST /path*`). An unlisted gRPC call is a POST
    and therefore is not.
    """

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self._exact: set[tuple[bytes, bytes]] = set()
        self._prefixes: list[tuple[bytes, bytes]] = []
        for entry in listed:
            method, space, path = entry.rpartition(" ")
            verb = method.upper().encode() if space else b"POST"
            target = path if path.startswith("/") else "/" + path
            if target.endswith("*"):
                self._prefixes.append((verb, target[:-1].encode()))
            else:
                self._exact.add((verb, target.encode()))

    def allows(self, head: RequestHead) -> bool:
        """Whether this request may be sent again after it may have been processed."""
        if head.method in IDEMPOTENT_METHODS or get(head.headers, b"idempotency-key"):
            return True
        if not self._exact and not self._prefixes:
            return False
        path = head.path.partition(b"?")[0]
        if (head.method, path) in self._exact:
            return True
        return any(head.method == verb and path.startswith(prefix) for verb, prefix in self._prefixes)


class MethodSet:
    """A set of gRPC methods, patterns included; paths as on the wire."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, methods: Iterable[str] = ()) -> None:
        paths = [method if method.startswith("/") else "/" + method for method in methods]
        self._exact = {path.encode() for path in paths if not path.endswith("*")}
        self._prefixes = tuple(path[:-1].encode() for path in paths if path.endswith("*"))

    def __contains__(self, path: bytes) -> bool:
        return path in self._exact or (bool(self._prefixes) and path.startswith(self._prefixes))
