"""Random changes to an input. Everything is drawn from the generator that is given, so
that a seed tells the whole run."""

from collections.abc import Sequence
from random import Random

_LONGEST = 8192
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF)


def mutated(rng: Random, seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """One of the seeds with one to eight changes; `words` are pieces that matter there."""
    data = bytearray(rng.choice(seeds))
    for _ in range(1 << rng.randrange(4)):
        rng.choice(_CHANGES)(rng, data, seeds, words)
    return bytes(data[:_LONGEST])


def _place(rng: Random, data: bytearray) -> tuple[int, int]:
    """A stretch of at most 32 bytes."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randrange(33))


def _flip(rng: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(_NUMBERS) if rng.random() < 0.5 else rng.randrange(256)


def _insert(rng: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(1 + rng.randrange(8))


def _word(rng: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    if words:
        start, end = _place(rng, data)
        data[start : end if rng.random() < 0.5 else start] = rng.choice(words)


def _delete(rng: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    start, end = _place(rng, data)
    del data[start:end]


def _repeat(rng: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    start, end = _place(rng, data)
    data[end:end] = data[start:end] * (1 + rng.randrange(4))


def _splice(rng: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


_CHANGES = (_flip, _flip, _set, _insert, _word, _word, _delete, _repeat, _splice)


def split(rng: Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces of any size."""
    pieces = []
    while data:
        size = rng.choice((1, 2, 7, 64, 1024)) if rng.random() < 0.8 else len(data)
        pieces.append(data[:size])
        data = data[size:]
    return pieces
