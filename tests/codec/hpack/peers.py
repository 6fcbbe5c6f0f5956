"""Two other implementations of HPACK (RFC 7541), as one end of a connection each."""

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Protocol, cast

import hpack

_HERE = Path(__file__).parent
# More than any list of the tests.
_LIST_SIZE = 1 << 20


class Field(NamedTuple):
    """A header field; `never` says that it must never be indexed (RFC 7541 6.2.3)."""

    name: bytes
    value: bytes
    never: bool = False


List = Sequence[Field]


class Peer(Protocol):
    """An encoder and a decoder."""

    # Whether a block may begin with two changes of the table's size, as RFC 7541 4.2 asks for
    # when it was made smaller and larger again between two blocks.
    takes_two_sizes: bool

    def renew(self) -> None:
        """Begin a connection: both tables are empty and of 4,096 bytes."""

    def encode(self, steps: Sequence[int | List]) -> list[bytes]:
        """The header block of each list. A number is the size that the encoder's table is given then."""

    def decode(self, steps: Sequence[int | bytes]) -> list[list[Field]]:
        """The list in each header block. A number is what the decoder allows the table from then on
        (SETTINGS_HEADER_TABLE_SIZE). An error of the library when a block is no HPACK."""


class PythonPeer:
    """The `hpack` package. Everything is written in Huffman codes, or nothing: it takes turns."""

    takes_two_sizes = True

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder(max_header_list_size=_LIST_SIZE)
        self._turn = 0

    def encode(self, steps: Sequence[int | List]) -> list[bytes]:
        blocks = []
        for step in steps:
            if not isinstance(step, int):
                self._turn += 1
                blocks.append(self._encoder.encode(step, huffman=self._turn % 3 != 0))
            elif step != self._encoder.header_table_size:
                # The same size again would make it forget the change that it has to tell.
                self._encoder.header_table_size = step
        return blocks

    def decode(self, steps: Sequence[int | bytes]) -> list[list[Field]]:
        lists = []
        for step in steps:
            if isinstance(step, int):
                self._decoder.max_allowed_table_size = step
            else:
                decoded = self._decoder.decode(step, raw=True)
                lists.append([Field(bytes(one[0]), bytes(one[1]), not one.indexable) for one in decoded])
        return lists


class GoPeer:
    """golang.org/x/net/http2/hpack, as in Go's net/http: one process, asked message by message."""

    # Not while its table holds something. Its own SETTINGS never change the size, so that it never meets it.
    takes_two_sizes = False

    def __init__(self, binary: Path) -> None:
        self._process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._in, self._out = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    def renew(self) -> None:
        self._ask(b"N")

    def encode(self, steps: Sequence[int | List]) -> list[bytes]:
        answer = self._ask(b"E" + b"".join(_size(step) if isinstance(step, int) else _list(step) for step in steps))
        blocks, at = [], 0
        while at < len(answer):
            _, size = _BLOCK.unpack_from(answer, at)
            at += 5 + size
            blocks.append(answer[at - size : at])
        return blocks

    def decode(self, steps: Sequence[int | bytes]) -> list[list[Field]]:
        answer = self._ask(
            b"D"
            + b"".join(_size(step) if isinstance(step, int) else _BLOCK.pack(b"B", len(step)) + step for step in steps)
        )
        lists, at = [], 0
        while at < len(answer):
            _, number = _LIST.unpack_from(answer, at)
            at += 3
            fields = []
            for _ in range(number):
                never, name, value = _FIELD.unpack_from(answer, at)
                at += 7 + name + value
                fields.append(Field(answer[at - value - name : at - value], answer[at - value : at], bool(never)))
            lists.append(fields)
        return lists

    def _ask(self, message: bytes) -> bytes:
        """RuntimeError when it has ended: it could not decode what it was given."""
        self._in.write(len(message).to_bytes(4, "big") + message)
        self._in.flush()
        head = self._out.read(4)
        if len(head) < 4:
            raise RuntimeError("Go's HPACK gave up: see its message on standard error")
        return self._out.read(int.from_bytes(head, "big"))

    def __enter__(self) -> "GoPeer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in.close()
        self._out.close()
        self._process.wait(10)


_BLOCK, _LIST, _FIELD = struct.Struct(">cI"), struct.Struct(">cH"), struct.Struct(">BHI")


def _size(size: int) -> bytes:
    return _BLOCK.pack(b"S", size)


def _list(fields: List) -> bytes:
    packed = [
        _FIELD.pack(field.never, len(field.name), len(field.value)) + field.name + field.value for field in fields
    ]
    return _LIST.pack(b"L", len(fields)) + b"".join(packed)


VENDORED = "golang.org/x/net/http2/hpack"
SOURCE = _HERE / "peer.go"
