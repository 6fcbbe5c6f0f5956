"""Header fields as both HTTP versions see them: an ordered list of byte pairs.

Names are lower case everywhere inside the sidecar (RFC 9113 8.2.1 asks for it,
HTTP/1 names are case-insensitive, RFC 9110 5.1), so a lookup is an equality.
A list, not a dict: order and repetition are part of a message.
"""

from collections.abc import Sequence

Header = tuple[bytes, bytes]
Headers = list[Header]


def get(headers: Sequence[Header], name: bytes) -> bytes | None:
    """The first value of a field, or None. `name` is lower case."""
    for key, value in headers:
        if key == name:
            return value
    return None


def get_all(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of a field, in order. `name` is lower case."""
    return [value for key, value in headers if key == name]


def replace(headers: Headers, name: bytes, value: bytes) -> Headers:
    """A copy where the field stands exactly once, at the end."""
    kept = [pair for pair in headers if pair[0] != name]
    kept.append((name, value))
    return kept


def without(headers: Headers, names: frozenset[bytes] | set[bytes]) -> Headers:
    """A copy without the named fields."""
    return [pair for pair in headers if pair[0] not in names]


def tokens(headers: Headers, name: bytes) -> list[bytes]:
    """The comma-separated, lower-cased members of a list field (RFC 9110 5.6.1)."""
    return [
        token for value in get_all(headers, name) for part in value.split(b",") if (token := part.strip(b" \t").lower())
    ]
