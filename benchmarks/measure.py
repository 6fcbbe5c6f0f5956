"""How a figure is taken: rounds, the best of them, and the collector out of the way."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work a figure is worth. `number` operations a round; `seconds` of load
    for each run over sockets."""

    rounds: int = 7
    number: int = 10_000
    seconds: int = 4


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `value` is None where it could not be measured, and
    `note` says why."""

    group: str
    name: str
    value: float | None
    unit: str
    note: str = ""


@contextmanager
def quiet() -> Iterator[None]:
    """The collector as `sidecar run` sets it, and as it was afterwards."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def best(effort: Effort, call: Callable[[int], object]) -> float:
    """Microseconds for one of the operations of which `call(n)` does n: of the best
    round, because whatever else the machine does only ever adds."""
    call(max(1, effort.number // 10))
    lowest = float("inf")
    with quiet():
        for _ in range(effort.rounds):
            start = time.perf_counter()
            call(effort.number)
            lowest = min(lowest, time.perf_counter() - start)
    return lowest / effort.number * 1e6
