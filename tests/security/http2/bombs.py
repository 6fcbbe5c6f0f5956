"""HPACK bombs (RFC 7541 7.3, RFC 9113 10.5): header blocks that are small and mean much, never end, or are none."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.security.http2 import frames as f

_FRAME: Final = 16_384
_FIRST: Final = b"\xbe"  # refers to the newest entry of the dynamic table


@dataclass(frozen=True)
class Bomb:
    """`block` is sent behind the pseudo-header fields, or in their place where it is `bare`; it has no END_HEADERS
    where it is `open`. `answer` is the code of a GOAWAY, or the status with which the stream alone is refused."""

    name: str
    block: bytes
    answer: int
    bare: bool = False
    open: bool = False

    def __str__(self) -> str:
        return self.name

    def frames(self, stream: int, head: f.Fields) -> bytes:
        """The block in HEADERS and as many CONTINUATIONs as it takes (RFC 9113 6.10)."""
        return b"".join(self._frames(stream, self.block if self.bare else f.block(head) + self.block))

    def _frames(self, stream: int, block: bytes) -> Iterator[bytes]:
        parts = [block[at : at + _FRAME] for at in range(0, len(block), _FRAME)]
        for index, part in enumerate(parts):
            flags = (0 if self.open or index < len(parts) - 1 else f.END_HEADERS) | (0 if index else f.END_STREAM)
            yield f.frame(f.CONTINUATION if index else f.HEADERS, flags, stream, part)


def _entry(name: bytes, size: int) -> bytes:
    """A field that is put into the dynamic table (RFC 7541 6.2.1), with a value of so many bytes."""
    return b"\x40" + f.literal(name, b"v" * size)[1:]


def huffman(number: int) -> bytes:
    """A slash and so many times "a", padded with ones (RFC 7541 5.2)."""
    size = 6 + 5 * number
    code = int("011000" + "00011" * number + "1" * (-size % 8), 2)
    return code.to_bytes(-(-size // 8))


def _compression(name: str, block: bytes, bare: bool = False, open: bool = False) -> Bomb:  # noqa: A002
    return Bomb(name, block, f.COMPRESSION_ERROR, bare, open)


def _target(block: bytes) -> bytes:
    """A head whose :path (RFC 7541 6.2.2, entry 4 of the static table) is this string."""
    return f.block([each for each in f.GET if each[0] != b":path"]) + b"\x04" + block


# Lists over what is allowed: what we told the client is 431, far more ends the connection.
LARGE: Final = [
    Bomb("4,000 bytes, 16,000 times", _entry(b"x-bomb", 3900) + _FIRST * 16_000, f.ENHANCE_YOUR_CALM),
    Bomb("4,000 bytes, 20 times", _entry(b"x-bomb", 3900) + _FIRST * 20, 431),
    Bomb("33 bytes, 16,000 times", _entry(b"a", 0) + _FIRST * 16_000, f.ENHANCE_YOUR_CALM),
    Bomb("33 bytes, 1,900 times, within the announced size", _entry(b"a", 0) + _FIRST * 1_900, 431),
    Bomb("a static field, 16,000 times", b"\x90" * 16_000, f.ENHANCE_YOUR_CALM),
    Bomb("a static field, 257 times", b"\x90" * 257, 431),
    Bomb("300 small fields, each once", f.block([(b"x%d" % number, b"") for number in range(300)]), 431),
    Bomb("a target of 16 KiB and a byte", _target(f.string(b"/" + b"x" * 16_384)), 414, bare=True),
    Bomb("a target of 60,000 bytes", _target(f.string(b"/" + b"x" * 59_999)), 414, bare=True),
    # The code of "a" is 00011, of "/" 011000 (RFC 7541 Appendix B).
    Bomb("a target of 16,385 bytes in 10,241", _target(f.string(huffman(16_384), coded=True)), 414, bare=True),
    Bomb("a target of 104,856 bytes in 65,536", _target(f.string(huffman(104_855), coded=True)), 414, bare=True),
    Bomb(
        "a long target and a large list",
        _target(f.string(b"/" + b"x" * 30_000)) + f.block([(b"x-a", b"v" * 40_000)]),
        414,
        bare=True,
    ),
    Bomb("fields without end", f.block([(b"x-a", b"b" * 500)]) * 3_000, f.ENHANCE_YOUR_CALM, open=True),
    Bomb("table sizes without end", b"\x20" * 70 * _FRAME, f.ENHANCE_YOUR_CALM, bare=True, open=True),
]

# Strings and integers that grow or never end, and what refers to nothing. RFC 7541 5.1 has a length beyond
# what an implementation takes be an error of decoding, and RFC 9113 4.3 that be COMPRESSION_ERROR: it is told
# before a byte of the string is there, so that nothing of it has to be bounded.
BROKEN: Final = [
    _compression("a value of 65,537 bytes", f.block([(b"x-a", b"v" * 65_537)])),
    _compression("a name of 65,537 bytes", f.block([(b"n" * 65_537, b"v")])),
    _compression("a target of 65,537 bytes", _target(f.string(b"/" + b"x" * 65_536)), bare=True),
    _compression("the length of a value of 65,537 bytes alone", b"\x00\x01x\x7f\x82\xff\x03", open=True),
    _compression("Huffman codes that grow to 160 kB", b"\x00\x01x\xff\xa1\x8c\x06" + bytes(100_000)),
    _compression("a string of 256 MB, without end", b"\x00\x01x\x7f\x81\xff\xff\x7f" + b"v" * 200_000, open=True),
    _compression("Huffman codes of 256 MB, without end", b"\x00\x01x\xff\x81\xff\xff\x7f" + bytes(200_000), open=True),
    _compression("a name of 256 MB, without end", b"\x00\x7f\x81\xff\xff\x7f" + b"n" * 200_000, open=True),
    _compression("Huffman codes with the end of string inside", b"\x00\x01x\x86\x1f\xff\xff\xff\xff\x1f"),
    _compression("Huffman padding of a whole byte", b"\x00\x01x\x82\x07\xff"),
    _compression("an index of ones without end", b"\xff" * 16_000, open=True),
    _compression("an index of zeros without end", b"\xff" + b"\x80" * 16_000, open=True),
    _compression("a name's index without end", b"\x7f" + b"\x80" * 16_000, open=True),
    _compression("the length of a name without end", b"\x00\x7f" + b"\x80" * 16_000, open=True),
    _compression("the length of a value without end", b"\x00\x01x\x7f" + b"\x80" * 16_000, open=True),
    _compression("a table size without end", b"\x3f" + b"\x80" * 16_000, bare=True, open=True),
    _compression("an index of 2^32", b"\xff\x81\xff\xff\xff\x0f"),
    _compression("an index of 2^64", b"\xff\x81" + b"\xff" * 8 + b"\x01"),
    _compression("index 0", b"\x80"),
    _compression("the first entry of an empty table", _FIRST),
    _compression("one entry more than there are", _entry(b"a", 0) + b"\xbf"),
    _compression("an entry that was too large for the table", _entry(b"a", 4_064) + _FIRST),
    _compression("an entry that was evicted", _entry(b"a", 2_000) + _entry(b"b", 3_000) + b"\xbf"),
    _compression("a name of an entry that is none", b"\x7f\x00\x01v"),
    _compression("a table of 4,097 bytes", b"\x3f\xe2\x1f", bare=True),
    _compression("a table of 2^32 bytes", b"\x3f\xe1\xff\xff\xff\x0f", bare=True),
    _compression("a table size behind a field", b"\x20\x82"),
    _compression("a table size at the end", b"\x3f\xe1\x1f"),
    _compression("an entry that a new size has evicted", b"\x20\x3f\xe1\x1f" + _FIRST, bare=True),
    _compression("a field that is cut", b"\x00\x01"),
]

# As far as one may go: served.
ALLOWED: Final = {
    "the largest table": b"\x3f\xe1\x1f",
    "two table sizes": b"\x20\x3f\xe1\x1f",
    "8,000 table sizes": b"\x20\x3f\xe1\x1f" * 4_000,
    "an entry that fills the table": _entry(b"a", 4_063) + _FIRST,
    "256 fields": _entry(b"a", 0) + _FIRST * 255,
    "256 small fields, each once": f.block([(b"x%d" % number, b"") for number in range(256)]),
    "15 times 4,000 bytes": _entry(b"x-bomb", 3900) + _FIRST * 14,
    "Huffman codes that end with a byte": b"\x00\x01x\x85" + bytes(5),
    "Huffman padding of seven bits": b"\x00\x01x\x82\x1c\x7f",
    "a name of the table": _entry(b"a", 0) + b"\x7e\x01v",
    "an integer with zeros behind it": b"\x00\x01x\x7f\x80\x80\x00" + b"v" * 127,
}
