"""Calls at their time, and what they are counted as."""

import asyncio
from math import inf

import pytest

from sidecar.demo.scenario import Call
from sidecar.demo.traffic import Lane, Sample, Summary, drive, percentile


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.01, 1.0), (0.5, 50.0), (0.501, 51.0), (0.99, 99.0), (1.0, 100.0)]
)
def test_the_nearest_rank(share: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 101)], share) == value


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile([], 0.5) == inf


def test_times_are_those_of_the_calls_that_succeeded() -> None:
    found = Summary.of([Sample("p", 0.3, ""), Sample("p", 9.0, "timeout"), Sample("p", 0.1, ""), Sample("p", 0.0, "x")])
    assert (found.requests, found.succeeded, found.failed) == (4, 2, 2)
    assert (found.p50, found.p99) == (0.1, 0.3)
    assert found.failures == {"timeout": 1, "x": 1}
    assert found.success_rate == 0.5


def test_nothing_is_no_success() -> None:
    assert Summary.of([]).success_rate == 0.0


class Scripted:
    """A client whose first call hangs until all the others were made."""

    def __init__(self, calls: int) -> None:
        self.started: list[int] = []
        self._all = asyncio.Event()
        self._calls = calls

    async def call(self, call: Call) -> str:
        self.started.append(call.number)
        if len(self.started) == self._calls:
            self._all.set()
        if call.number == 0:
            await self._all.wait()
        return "reset" if call.number == 1 else ""

    async def close(self) -> None:
        pass


async def test_a_call_that_hangs_does_not_hold_up_the_next() -> None:
    calls = [Call(0.0, "slow", number, False) for number in range(3)]
    client, lane = Scripted(len(calls)), Lane("http", "straight")
    await asyncio.wait_for(drive(client, calls, lane, asyncio.get_running_loop().time()), 10)
    assert client.started == [0, 1, 2]
    assert lane.summary("slow").failures == {"reset": 1}
    assert lane.summary().requests == 3
    assert lane.summary("killed").requests == 0
