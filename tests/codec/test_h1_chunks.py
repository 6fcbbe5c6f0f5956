"""sidecar.codec.h1.chunks: the chunked coding, cut in any way (RFC 9112 7.1)."""

from random import Random

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.mutate import mutated
from sidecar.codec import h1
from sidecar.codec.h1.chunks import Chunked
from tests.codec.h1_transcripts import cut

LONGEST = b";" + b"x" * (h1.MAX_EXTENSION_BYTES - 1)

# The coding, the body, the trailers.
GOOD: dict[str, tuple[bytes, bytes, list[tuple[bytes, bytes]]]] = {
    "nothing": (b"0\r\n\r\n", b"", []),
    "one": (b"3\r\nabc\r\n0\r\n\r\n", b"abc", []),
    "several": (b"3\r\nabc\r\n1\r\nd\r\n2\r\nef\r\n0\r\n\r\n", b"abcdef", []),
    "CRLF in a chunk": (b"4\r\n\r\n0\r\r\n2\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\r\n", []),
    "both cases of digits": (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, []),
    "zeros before a size": (b"0003\r\nabc\r\n000\r\n\r\n", b"abc", []),
    "extensions": (b'3;a;b=c;d="e;f"\r\nabc\r\n0;g\r\n\r\n', b"abc", []),
    "the longest extension": (b"3" + LONGEST + b"\r\nabc\r\n0" + LONGEST + b"\r\n\r\n", b"abc", []),
    "trailers": (b"1\r\na\r\n0\r\nX-T: 1\r\nX-U:2 \r\n\r\n", b"a", [(b"x-t", b"1"), (b"x-u", b"2")]),
    "trailers of an upgrade": (
        b"0\r\nConnection: Upgrade\r\nUpgrade: x\r\nX-T: 1\r\n\r\n",
        b"",
        [(b"x-t", b"1")],
    ),
}
BAD: dict[str, tuple[bytes, int]] = {
    "no digit": (b"x", 400),
    "an empty line": (b"\r\n", 400),
    "a bare LF": (b"3\n", 400),
    "a bare CR": (b"3\ra", 400),
    "a space before": (b" 3", 400),
    "a space behind": (b"3 ", 400),
    "a tab behind": (b"3\t", 400),
    "0x": (b"0x", 400),
    "a sign": (b"+3", 400),
    "too many digits": (b"1" * 16, 400),
    "a control byte in an extension": (b"3;\x01", 400),
    "CR CR LF behind an extension": (b"3;a\r\r", 400),
    "an extension that is too long": (b"3" + LONGEST + b"x\r\n", 400),
    "an extension without end": (b"3" + LONGEST * 2, 400),
    "no CRLF behind a chunk": (b"1\r\nab", 400),
    "LF behind a chunk": (b"1\r\na\n", 400),
    "two lines behind a chunk": (b"1\r\na\r\n\r\n", 400),
    "a trailer without a colon": (b"0\r\nX\r\n\r\n", 400),
    "a trailer that tells a length": (b"0\r\nContent-Length: 1\r\n\r\n", 400),
    "a trailer that tells a coding": (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "a folded trailer": (b"0\r\nX: 1\r\n 2\r\n\r\n", 400),
    "a bare LF in a trailer": (b"0\r\nX: 1\nY: 2\r\n\r\n", 400),
    "too many trailers": (b"0\r\n" + b"X: 1\r\n" * (h1.MAX_FIELDS + 1) + b"\r\n", 431),
    "too large trailers": (b"0\r\nX: " + b"x" * h1.MAX_HEAD_BYTES + b"\r\n\r\n", 431),
}


def read(pieces: list[bytes]) -> tuple[bytes, list[tuple[bytes, bytes]] | None, bytes]:
    """The body, the trailers where it has ended, and what came behind it."""
    told: list[bytes] = []
    chunks = Chunked(lambda data, end: told.append(data))
    behind = b""
    trailers = None
    for piece in pieces:
        if trailers is not None:
            behind += piece
            continue
        rest = chunks.feed(piece)
        if rest is not None:
            behind, trailers = rest, chunks.trailers
    return b"".join(told), trailers, behind


@given(
    st.sampled_from(sorted(GOOD)), st.lists(st.integers(0, 3000), max_size=12), st.sampled_from([b"", b"\r\n", b"3"])
)
def test_any_cut_gives_the_body_the_trailers_and_the_rest(name: str, places: list[int], behind: bytes) -> None:
    data, body, trailers = GOOD[name]
    assert read(cut(data + behind, places)) == (body, trailers, behind)


@pytest.mark.parametrize("name", GOOD)
def test_byte_by_byte(name: str) -> None:
    data, body, trailers = GOOD[name]
    assert read([data[i : i + 1] for i in range(len(data))]) == (body, trailers, b"")


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_chunk(name: str) -> None:
    data, status = BAD[name]
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        with pytest.raises(h1.H1Error) as caught:
            read(pieces)
        assert caught.value.status == status


def test_a_large_chunk_is_passed_on_as_it_came() -> None:
    told: list[bytes] = []
    chunks = Chunked(lambda data, end: told.append(data))
    chunks.feed(b"100000\r\n")
    piece = b"x" * 65536
    for _ in range(3):
        assert chunks.feed(piece) is None
    assert all(each is piece for each in told)


class Llhttp:
    """What llhttp makes of a chunked body, for comparison."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_taken_that_llhttp_reads_otherwise(seed: int) -> None:
    rng = Random(seed)
    seeds = [data for data, _, _ in GOOD.values() if len(data) < 500] + [
        data for data, _ in BAD.values() if len(data) < 500
    ]
    words = (b"\r\n", b"\n", b"\r", b"0\r\n\r\n", b"1\r\n", b";", b"a", b" ", b"\t", b"=", b'"', b"X: 1\r\n", b"0")
    taken = 0
    for _ in range(5_000):
        data = mutated(rng, seeds, words)
        try:
            body, trailers, behind = read([data])
        except h1.H1Error:
            continue
        if trailers is None:
            continue  # it may be found wrong yet
        other = Llhttp()
        refusal = ""
        try:
            other.parser.feed_data(data[: len(data) - len(behind)])
        except httptools.HttpParserError as error:
            refusal = str(error)
        # Extensions are not looked into here: nothing of them goes on.
        assert not refusal or "extension" in refusal, (data, refusal)
        assert refusal or (other.body, other.complete) == (body, True), data
        taken += 1
    assert taken > 200
