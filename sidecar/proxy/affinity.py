"""The key by which ring_hash and maglev keep a client's requests together."""

from collections.abc import Callable

from xxhash import xxh3_64_intdigest

from sidecar.model.head import RequestHead
from sidecar.model.headers import get, get_all

KeyOf = Callable[[RequestHead, str], int]


def key_of(source: str) -> KeyOf:
    """A hash of `header:NAME`, `cookie:NAME`, `path` or `source` (the client's host).

    A request without the header or cookie is hashed by its client's host.
    """
    kind, _, name = source.partition(":")
    key = name.lower().encode()
    if kind == "header":
        return lambda head, peer: _hash(get(head.headers, key), peer)
    if kind == "cookie":
        return lambda head, peer: _hash(_cookie(head, name.encode()), peer)
    if kind == "path":
        return lambda head, peer: xxh3_64_intdigest(head.path.partition(b"?")[0])
    if kind == "source":
        return lambda head, peer: _hash(None, peer)
    raise ValueError(f"{source!r} is no hash key")


def _hash(value: bytes | None, peer: str) -> int:
    if value is None:
        value = peer.rpartition(":")[0].encode()
    return xxh3_64_intdigest(value)


def _cookie(head: RequestHead, name: bytes) -> bytes | None:
    for field in get_all(head.headers, b"cookie"):
        for pair in field.split(b";"):
            key, equals, value = pair.strip().partition(b"=")
            if equals and key == name:
                return value
    return None
