"""Runs targets: draws inputs, checks the invariant, makes a failing input small.

A target is a module of this package. It opens with its invariant and has `SEEDS`,
`WORDS`, `check(data)` that raises when the invariant does not hold, and perhaps
`draw(rng)` in place of the usual mutation.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, cast

from fuzz import (
    admin,
    both_sides,
    config,
    grpc,
    h1_client,
    h1_requests,
    h1_responses,
    h1_server,
    h2_client,
    h2_heads,
    h2_server,
    reload,
    takeover,
    tls,
    tunnel,
)
from fuzz.mutate import mutated

_SHRINK_STEPS = 400


class Target(Protocol):
    """What a module of a target has."""

    SEEDS: Sequence[bytes]
    WORDS: Sequence[bytes]
    check: Callable[[bytes], None]


TARGETS: dict[str, Target] = {
    module.__name__.rpartition(".")[2]: cast(Target, module)
    for module in (
        h1_requests,
        h1_responses,
        h1_server,
        h1_client,
        h2_heads,
        h2_server,
        h2_client,
        both_sides,
        tunnel,
        tls,
        takeover,
        admin,
        reload,
        config,
        grpc,
    )
}


@dataclass(frozen=True, slots=True)
class Broken(Exception):  # noqa: N818 - it is a result that ends a run
    """An invariant does not hold for `data`; `number` inputs were tried."""

    name: str
    data: bytes
    number: int
    error: Exception

    def __str__(self) -> str:
        return f"{self.name}: {type(self.error).__name__}: {self.error} (input {self.number}, {len(self.data)} bytes)"


def run(name: str, target: Target, seed: int, enough: Callable[[int], bool]) -> int:
    """Try the seeds and then what is made of them until `enough(number of inputs)`;
    the number. Broken at the first failure."""
    rng = Random(f"{name} {seed}")
    draw: Callable[[Random], bytes] = getattr(target, "draw", None) or (
        lambda rng: mutated(rng, target.SEEDS, target.WORDS)
    )
    number = 0
    while number < len(target.SEEDS) or not enough(number):
        data = target.SEEDS[number] if number < len(target.SEEDS) else draw(rng)
        number += 1
        error = fails(target, data)
        if error is not None:
            small = shrunk(target, data)
            raise Broken(name, small, number, fails(target, small) or error)
    return number


def fails(target: Target, data: bytes) -> Exception | None:
    """What the check raises, or None."""
    try:
        target.check(data)
    except Exception as error:
        return error
    return None


def shrunk(target: Target, data: bytes) -> bytes:
    """A smaller input that still fails: stretches are cut out, halving their size."""
    steps = 0
    size = len(data) // 2
    while size:
        start = 0
        while start < len(data) and steps < _SHRINK_STEPS:
            steps += 1
            shorter = data[:start] + data[start + size :]
            if fails(target, shorter) is not None:
                data = shorter
            else:
                start += size
        size //= 2
    return data


def until(seconds: float) -> Callable[[int], bool]:
    """Enough when so much time is over."""
    end = time.monotonic() + seconds
    return lambda number: time.monotonic() >= end
