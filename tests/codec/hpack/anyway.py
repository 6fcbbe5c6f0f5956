"""An encoder that writes whatever RFC 7541 allows: the libraries use a few of its representations only."""

from collections.abc import Sequence
from random import Random
from typing import Final

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from tests.codec.hpack.peers import Field, List, PythonPeer

_STATIC: Final = [(bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE]
_HUFFMAN: Final = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


class AnyWay(PythonPeer):
    """Each field in one of the ways that it can be written, at random; it decodes with the `hpack` package."""

    def __init__(self, random: Random) -> None:
        self._random = random
        super().__init__()

    def renew(self) -> None:
        super().renew()
        self._table: list[tuple[bytes, bytes]] = []  # newest first
        self._limit = 4096

    def encode(self, steps: Sequence[int | List]) -> list[bytes]:
        blocks, before = [], b""
        for step in steps:
            if isinstance(step, int):
                before += self._integer(0x20, 5, step)
                self._limit = step
                self._evict()
            else:
                blocks.append(before + b"".join(map(self._field, step)))
                before = b""
        assert not before, "a size belongs before a list"
        return blocks

    def _field(self, field: Field) -> bytes:
        pair, random = (field.name, field.value), self._random
        entries = [*_STATIC, *self._table]
        whole = [index for index, entry in enumerate(entries, 1) if entry == pair]
        if whole and not field.never and random.random() < 0.7:
            return self._integer(0x80, 7, random.choice(whole))  # 6.1
        pattern, bits = (0x10, 4) if field.never else random.choice(((0x40, 6), (0x40, 6), (0x00, 4)))  # 6.2
        named = [index for index, entry in enumerate(entries, 1) if entry[0] == field.name]
        if named and random.random() < 0.7:
            out = self._integer(pattern, bits, random.choice(named))
        else:
            out = bytes([pattern]) + self._string(field.name)
        if pattern == 0x40:
            self._table.insert(0, pair)
            self._evict()
        return out + self._string(field.value)

    def _evict(self) -> None:
        """RFC 7541 4.1 to 4.4."""
        size = sum(32 + len(name) + len(value) for name, value in self._table)
        while size > self._limit:
            name, value = self._table.pop()
            size -= 32 + len(name) + len(value)

    def _string(self, text: bytes) -> bytes:
        """RFC 7541 5.2."""
        if self._random.random() < 0.5:
            return self._integer(0, 7, len(text)) + text
        coded = _HUFFMAN.encode(text)
        return self._integer(0x80, 7, len(coded)) + coded

    def _integer(self, pattern: int, bits: int, number: int) -> bytes:
        """RFC 7541 5.1, now and then with zeros behind it, which it does not forbid."""
        most = (1 << bits) - 1
        if number < most:
            return bytes([pattern | number])
        out, number = [pattern | most], number - most
        while number >= 128:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
        if self._random.random() < 0.05 and len(out) < 4:
            out[-1] |= 128
            out.append(0)
        return bytes(out)
