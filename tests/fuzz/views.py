"""What was said, without how it was cut: the messages and ends in bytes of either HTTP version."""

from typing import Any

import hpack

from fuzz import h1_requests, h1_responses
from sidecar.model.head import RequestHead
from tests.security.http2 import frames as f

Lines = list[tuple[Any, ...]]


def streams(data: bytes) -> dict[int, Lines]:
    """What frames say of each stream, neighbouring DATA as one; under 0 what ends the connection.
    What moves windows, and answers to SETTINGS and PING, come as the reads do: they are left out."""
    found: dict[int, Lines] = {}
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    block = b""
    for each in f.split(data.removeprefix(f.PREFACE)):
        lines = found.setdefault(each.stream, [])
        if each.kind in (f.HEADERS, f.CONTINUATION):
            block = each.payload if each.kind == f.HEADERS else block + each.payload
            if each.flags & f.END_HEADERS:
                lines.append(("head", decoder.decode(block, raw=True)))
        elif each.kind == f.DATA and each.payload:
            before = lines.pop()[1] if lines and lines[-1][0] == "data" else b""
            lines.append(("data", before + each.payload))
        elif each.kind in (f.RST_STREAM, f.GOAWAY):
            last = int.from_bytes(each.payload[:4], "big") if each.kind == f.GOAWAY else 0
            lines.append((f.NAMES[each.kind], each.code, last))
        if each.end:
            lines.append(("end",))
    return {stream: lines for stream, lines in found.items() if lines}


def alike(one: dict[int, Lines], other: dict[int, Lines]) -> bool:
    """Whether the same became of each stream.

    What is whole is whole in both. What is not ends in both, but two ends may overtake each other, and
    what was to be written before them: their codes are not compared. A stream error may be taken for one
    of the connection (RFC 9113 5.4): then the other ends a stream at least, and what both tell is the same."""
    if _gone(one) == _gone(other) == []:
        return _whole(one) == _whole(other) and one.keys() == other.keys()
    if not all(
        _gone(each) or any(line[0] == "RST_STREAM" for lines in each.values() for line in lines)
        for each in (one, other)
    ):
        return False
    return all(_whole(one)[stream] == _whole(other)[stream] for stream in _whole(one).keys() & _whole(other).keys())


def asked(said: dict[int, Lines]) -> dict[int, Lines]:
    """The messages alone, without ends that came before theirs."""
    return {stream: [line for line in lines if line[0] != "RST_STREAM"] for stream, lines in said.items() if stream}


def _gone(said: dict[int, Lines]) -> list[int]:
    """The error codes of GOAWAYs."""
    return [line[1] for line in said.get(0, []) if line[1] != f.NO_ERROR]


def _whole(said: dict[int, Lines]) -> dict[int, Lines]:
    """The streams whose message was told to its end."""
    return {stream: lines for stream, lines in said.items() if lines[-1] == ("end",)}


def requests(connections: list[bytes]) -> list[Lines]:
    """What HTTP/1.1 endpoints read, over the connections on which they read something, in no order."""
    return sorted((h1_requests.read([data]) for data in connections if data), key=repr)


def answer(data: bytes, method: str) -> Lines:
    """What an HTTP/1.1 client that asked so reads, up to the end of its answer."""
    return h1_responses.read(RequestHead(method.encode(), b"/", b"a", []), [data])
