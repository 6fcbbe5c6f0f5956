"""Rise and fall, jitter, timeouts, and that nothing is left behind."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest

from sidecar.health.checker import Checker
from sidecar.model.address import Address
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from tests.support.clock import FakeClock
from tests.telemetry.parts import Parts

ONE, TWO = "10.0.0.1:80", "10.0.0.2:80"


class Script:
    """A probe that answers what it was told to, by address; "" when nothing is left."""

    def __init__(self) -> None:
        self.answers: dict[str, deque[str | Exception]] = {ONE: deque(), TWO: deque()}
        self.asked: list[str] = []
        self.hang = False
        self.closed = 0

    async def ask(self, address: Address) -> str:
        self.asked.append(str(address))
        if self.hang:
            await asyncio.Event().wait()
        answers = self.answers[str(address)]
        answer = answers.popleft() if answers else ""
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed += 1


class Sleeps:
    """Sleeps of each task that last until the test lets them end."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Event] = {}
        self.lengths: list[float] = []
        self._begun = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.lengths.append(seconds)
        over = self.waiting[task.get_name()] = asyncio.Event()
        self._begun.set()
        await over.wait()

    async def asleep(self, number: int) -> None:
        """Until so many tasks sleep."""
        while len(self.waiting) < number:
            self._begun.clear()
            await self._begun.wait()

    async def pass_(self) -> None:
        """Let everybody check once, and sleep again."""
        await _settled()
        waiting, self.waiting = self.waiting, {}
        for over in waiting.values():
            over.set()
        await _settled()


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def parts(clock: FakeClock) -> Parts:
    return Parts(clock)


@pytest.fixture
def cluster(parts: Parts) -> Cluster:
    return parts.cluster("users", ONE, TWO)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


Make = Callable[..., Checker]


@pytest.fixture
async def make(parts: Parts, cluster: Cluster, script: Script, sleeps: Sleeps) -> AsyncIterator[Make]:
    made: list[Checker] = []

    def build(**changed: Any) -> Checker:
        settings: dict[str, Any] = {"interval": 5.0, "timeout": 1.0, "rise": 2, "fall": 3, **changed}
        checker = Checker(parts.runtime, cluster, script, rng=Random(1), sleep=sleeps, **settings)
        made.append(checker)
        return checker

    yield build
    for checker in made:
        await checker.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("health ")]


def healthy(cluster: Cluster) -> list[bool]:
    return [endpoint.healthy for endpoint in cluster.endpoints]


async def test_falls_after_so_many_failures_and_rises_after_so_many_successes(
    make: Make, cluster: Cluster, script: Script, sleeps: Sleeps, parts: Parts
) -> None:
    script.answers[ONE].extend(["status 503", "status 503", "status 500", ""])
    make().start()
    seen = []
    for _ in range(6):
        await sleeps.pass_()
        seen.append(healthy(cluster))
    assert [one for one, _ in seen] == [True, True, False, False, True, True]
    assert all(two for _, two in seen)
    event = {"cluster": "users", "endpoint": ONE}
    assert parts.published == [
        ("health", {**event, "healthy": False, "reason": "status 500"}),
        ("health", {**event, "healthy": True, "reason": ""}),
    ]
    assert parts.turn.depth == 0


async def test_one_success_between_failures_begins_the_count_anew(
    make: Make, cluster: Cluster, script: Script, sleeps: Sleeps
) -> None:
    script.answers[ONE].extend(["no", "no", "", "no", "no"])
    make().start()
    for _ in range(5):
        await sleeps.pass_()
    assert healthy(cluster) == [True, True]


async def test_errors_and_silence_are_failures(make: Make, cluster: Cluster, script: Script, sleeps: Sleeps) -> None:
    script.answers[ONE].extend([ConnectionRefusedError(111, "Connection refused"), RuntimeError("odd")])
    checker = make(fall=1)
    checker.start()
    await sleeps.pass_()
    assert healthy(cluster) == [False, True]
    assert checker.tallies[ONE].reason == "Connection refused"
    await sleeps.pass_()
    assert checker.tallies[ONE].reason == "RuntimeError: odd"


async def test_a_reason_that_quotes_the_endpoint_is_one_short_line(
    make: Make, cluster: Cluster, script: Script, sleeps: Sleeps
) -> None:
    script.answers[ONE].append("400, message:\n  " + 1000 * "\\x00")
    checker = make(fall=1)
    checker.start()
    await sleeps.pass_()
    reason = checker.tallies[ONE].reason
    assert reason.startswith("400, message: \\x00")
    assert len(reason) == 300
    # Also where somebody looks for it later.
    assert (cluster.endpoints[0].complaint, cluster.endpoints[1].complaint) == (reason, "")
    await sleeps.pass_()
    await sleeps.pass_()
    assert healthy(cluster) == [True, True]
    assert cluster.endpoints[0].complaint == ""


async def test_no_answer_in_time_is_a_failure(make: Make, cluster: Cluster, script: Script, sleeps: Sleeps) -> None:
    script.hang = True
    checker = make(fall=1, timeout=0.001)
    checker.start()
    await sleeps.pass_()
    await sleeps.asleep(2)  # again, after the checks were given up
    assert healthy(cluster) == [False, False]
    assert checker.tallies[ONE].reason == "no answer within 0.001 s"


async def test_checks_are_spread_and_jittered(make: Make, sleeps: Sleeps) -> None:
    make(interval=10.0).start()
    await _settled()
    first = list(sleeps.lengths)
    assert all(0 <= seconds <= 1 for seconds in first)
    assert len(set(first)) == 2
    for _ in range(50):
        await sleeps.pass_()
    later = sleeps.lengths[2:]
    assert all(9 <= seconds <= 11 for seconds in later)
    assert max(later) - min(later) > 1


async def test_the_first_check_of_a_short_interval_comes_within_it(make: Make, sleeps: Sleeps) -> None:
    make(interval=0.01).start()
    await _settled()
    assert all(seconds <= 0.01 for seconds in sleeps.lengths)


async def test_stop_cancels_checks_under_way_and_closes_the_probe(
    make: Make, cluster: Cluster, script: Script, sleeps: Sleeps
) -> None:
    script.hang = True
    checker = make(timeout=1000.0)
    checker.start()
    await sleeps.pass_()
    assert sorted(script.asked) == [ONE, TWO]
    await checker.stop()
    assert script.closed == 1
    assert healthy(cluster) == [True, True]


async def test_a_replaced_checker_hands_its_counts_on(
    make: Make, cluster: Cluster, script: Script, sleeps: Sleeps
) -> None:
    script.answers[ONE].extend(["no"] * 3)
    old = make()
    old.start()
    await sleeps.pass_()
    await sleeps.pass_()
    new = make(interval=7.0)
    new.adopt(old)
    await old.stop()
    new.start()
    assert healthy(cluster) == [True, True]
    await sleeps.pass_()
    assert healthy(cluster) == [False, True]  # the third failure, not the first


async def test_sync_follows_the_endpoints(
    make: Make, parts: Parts, cluster: Cluster, script: Script, sleeps: Sleeps
) -> None:
    three = parts.endpoint("10.0.0.3:80")
    script.answers[three.name] = deque()
    checker = make()
    checker.start()
    await sleeps.pass_()
    endpoints: list[Endpoint] = [cluster.endpoints[1], three]
    cluster.replace_endpoints(endpoints)
    script.asked.clear()

    checker.sync(cluster.endpoints)
    await sleeps.pass_()

    assert sorted(script.asked) == [TWO, "10.0.0.3:80"]
    assert checker.tallies.keys() == {TWO, "10.0.0.3:80"}


async def test_who_is_no_longer_checked_comes_back(
    make: Make, cluster: Cluster, script: Script, sleeps: Sleeps
) -> None:
    script.answers[ONE].append("no")
    checker = make(fall=1)
    checker.start()
    await sleeps.pass_()
    assert healthy(cluster) == [False, True]
    checker.halt()
    checker.forgive()
    assert healthy(cluster) == [True, True]
