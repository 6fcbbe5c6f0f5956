"""Calls at their time, and what became of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from sidecar.demo.clients import Client
from sidecar.demo.scenario import Call


@dataclass(frozen=True, slots=True)
class Sample:
    """What became of one call: how long it took, and why it failed ("" when it did not)."""

    phase: str
    seconds: float
    failure: str


@dataclass(slots=True)
class Lane:
    """One client on one way: "straight" or "sidecar"."""

    protocol: str
    way: str
    samples: list[Sample] = field(default_factory=list)

    def summary(self, phase: str = "") -> "Summary":
        """Of all samples, or of one phase."""
        return Summary.of(sample for sample in self.samples if not phase or sample.phase == phase)


@dataclass(frozen=True, slots=True)
class Summary:
    """Times in seconds, of the calls that succeeded; inf when none did."""

    requests: int
    succeeded: int
    p50: float
    p99: float
    failures: dict[str, int]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Summary":
        """Count and sort."""
        times: list[float] = []
        failures: Counter[str] = Counter()
        for sample in samples:
            if sample.failure:
                failures[sample.failure] += 1
            else:
                times.append(sample.seconds)
        times.sort()
        return cls(
            len(times) + failures.total(),
            len(times),
            percentile(times, 0.5),
            percentile(times, 0.99),
            dict(failures.most_common()),
        )

    @property
    def failed(self) -> int:
        """How many did not succeed."""
        return self.requests - self.succeeded

    @property
    def success_rate(self) -> float:
        """From 0 to 1; 0 without requests."""
        return self.succeeded / self.requests if self.requests else 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; inf of none."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else inf


async def drive(client: Client, calls: Sequence[Call], lane: Lane, start: float) -> None:
    """Make each call at its time after `start` (of the loop's clock), whatever became
    of the earlier ones: a slow service does not slow its callers down."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        for call in calls:
            await asyncio.sleep(max(0.0, start + call.at - loop.time()))
            group.create_task(_make(client, call, lane))


async def _make(client: Client, call: Call, lane: Lane) -> None:
    began = time.perf_counter()
    failure = await client.call(call)
    lane.samples.append(Sample(call.phase, time.perf_counter() - began, failure))
