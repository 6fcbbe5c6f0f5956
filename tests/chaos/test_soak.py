"""Mixed traffic without end: requests, gRPC calls, cancels, resets, lost connections, reloads,
over both protocols.

Afterwards the process holds what it held before: tasks, files, timers, requests; and its
memory does not grow with the number of requests.
"""

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Child, Processes
from tests.support.sidecar import SidecarProcess
from tests.support.swift_client import Answer, Http1Client, Http2Client

CONFIG = """
admin: {{bind: "127.0.0.1:0"}}
defaults:
  # Connections to the services do not outlive the load: files can be counted.
  timeouts: {{request: {timeout}ms, idle: 1s}}
  retry: {{backoff: {{base: 1ms, max: 2ms}}}}
  # Failures are the point here: breakers must not keep them away.
  breaker: {{consecutive: 0, failure_ratio: 1, min_requests: 1000000}}
clusters:
  one: {{endpoints: ["{http1}"], protocol: http1}}
  two: {{endpoints: ["{http2}"], protocol: http2}}
listeners:
  out:
    bind: "127.0.0.1:0"
    routes:
      - match: {{headers: {{x-to: two}}}}
        to: two
      - to: one
"""
# Paths by how often they are asked for. 0 seconds of patience: as long as it takes.
MIX: Sequence[tuple[int, bytes, bytes, bytes, float]] = (
    (80, b"GET", b"/ok", b"", 0.0),
    (6, b"POST", b"/echo", b"x" * 5000, 0.0),
    (2, b"GET", b"/fail", b"", 0.0),
    (2, b"POST", b"/reset", b"{}", 0.0),
    (1, b"GET", b"/reset", b"", 0.0),
    (2, b"GET", b"/partial", b"", 0.0),
    (3, b"GET", b"/slow", b"", 0.0),
    (2, b"GET", b"/slow", b"", 0.005),
    (2, b"POST", b"/stall", b"{}", 0.005),
)
# The same of gRPC, which HTTP/2 callers alone ask for: every eighth time.
CALLS: Sequence[tuple[int, bytes, bytes, float]] = (
    (80, b"/swift.Ledger/Read", b"x" * 100, 0.0),
    (4, b"/swift.Ledger/ReadLate", b"", 0.0),
    (4, b"/swift.Ledger/ReadLate", b"", 0.005),
    (4, b"/fail", b"", 0.0),
    (4, b"/reset", b"", 0.0),
    (4, b"/partial", b"", 0.0),
)
# How often a caller cuts its connection first: with HTTP/2, that of eleven others as well.
CUT = {Http1Client: 0.01, Http2Client: 0.0005}
_WEIGHTS, _CALL_WEIGHTS = ([entry[0] for entry in each] for each in (MIX, CALLS))
HTTP1_CALLERS, HTTP2_CALLERS = 16, 48
# What they may get.
SEEN = {"200", "503", "502 reset", "504 timeout", "grpc 0", "grpc 14", "grpc 14 reset", "left", "broken"}
RELOAD_EVERY = 5000  # requests
# What the allocators' rounding may add once, in KiB.
SLACK = 1024
# What has to be as it was before the first request.
COUNTED = ("tasks", "files", "timers", "in_flight", "requests", "pending", "downstream")


class Load:
    """Callers over both protocols, and a reload every so many requests. `seen` says what they got."""

    def __init__(self, port: int, seed: int, reload: Callable[[], None]) -> None:
        self._reload = reload
        self._rng = random.Random(seed)
        self._port = port
        self._left = 0
        self.done = 0
        self.seen: Counter[str] = Counter()

    async def run(self, requests: int) -> None:
        """So many; every connection is closed at the end."""
        self._left = requests
        async with AsyncExitStack() as stack:
            shared = [await stack.enter_async_context(Http2Client("127.0.0.1", self._port)) for _ in range(4)]
            single = [
                await stack.enter_async_context(Http1Client("127.0.0.1", self._port)) for _ in range(HTTP1_CALLERS)
            ]
            async with asyncio.TaskGroup() as group:
                for client in (*single, *shared * (HTTP2_CALLERS // len(shared))):
                    group.create_task(self._call(client))

    def _next(self, client: Any) -> tuple[Coroutine[Any, Any, Answer], float]:
        """What to ask for, and for how long to wait."""
        if isinstance(client, Http2Client) and self._rng.random() < 1 / 8:
            _, path, message, patience = self._rng.choices(CALLS, _CALL_WEIGHTS)[0]
            return client.call(path, message, [(b"x-to", b"two")]), patience
        _, method, path, body, patience = self._rng.choices(MIX, _WEIGHTS)[0]
        return client.request(method, path, body, [(b"x-to", self._rng.choice((b"one", b"two")))]), patience

    async def _call(self, client: Any) -> None:
        while self._left > 0:
            self._left -= 1
            if self._rng.random() < CUT[type(client)]:
                client.close()
            answer, patience = self._next(client)
            try:
                async with asyncio.timeout(patience or None):
                    self.seen[(await answer).said] += 1
            except TimeoutError:
                self.seen["left"] += 1
            except ConnectionError:
                self.seen["broken"] += 1
            self.done += 1
            if self.done % RELOAD_EVERY == 0:
                self._reload()


async def _holds(sidecar: Child) -> dict[str, int]:
    """What the sidecar holds now."""
    number = len(sidecar.stdout)
    sidecar.signal(signal.SIGUSR1)
    line = await sidecar.until(lambda child: child.stdout[number] if len(child.stdout) > number else None)
    found: dict[str, int] = json.loads(line)
    return found


async def _at_rest(sidecar: Child, before: dict[str, int]) -> dict[str, int]:
    """The same once everything that is counted is as it was."""
    held: dict[str, int] = {}
    try:
        async with asyncio.timeout(30):
            while any(held.get(key) != before[key] for key in COUNTED):
                await asyncio.sleep(0.1)
                held = await _holds(sidecar)
    except TimeoutError:
        raise AssertionError(f"not as it was: {held}, before {before}") from None
    return held


async def _soak(processes: Processes, folder: Path, requests: int, parts: int) -> list[dict[str, int]]:
    one = await processes.service("tests.support.swift_service")
    two = await processes.service("tests.support.swift_service", "--http2")

    # Each with another timeout than the one before
    configs = cycle(CONFIG.format(timeout=ms, http1=one.address, http2=two.address) for ms in (2000, 2001))
    sidecar = SidecarProcess(folder, next(configs), module="tests.support.watched_sidecar")
    processes.own(sidecar)
    await sidecar.serve()

    def reload() -> None:
        sidecar.rewrite(next(configs))
        sidecar.signal(signal.SIGHUP)

    await _holds(sidecar)  # perhaps while it still starts
    before = await _holds(sidecar)
    load = Load(sidecar.port("out"), seed=1, reload=reload)
    held: list[dict[str, int]] = []
    for _ in range(parts):
        await load.run(requests // parts)
        # Then tasks, files and timers are as they were
        held.append(await _at_rest(sidecar, before))
    # And everything was answered, and most of it well: nothing but what was asked for went wrong
    assert load.seen.total() == load.done >= requests
    assert load.seen["200"] + load.seen["grpc 0"] >= 0.85 * requests, load.seen
    assert load.seen.keys() <= SEEN, load.seen
    assert not [event for event in sidecar.events if event["level"] == "error"]
    reloads = [event for event in sidecar.events if event["event"] == "reload" and event["result"] == "ok"]
    assert len(reloads) >= 0.5 * requests / RELOAD_EVERY  # a file and a signal may make one of two
    return held


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_nothing_is_left_after_200_000_requests(processes: Processes, tmp_path: Path) -> None:
    held = await _soak(processes, tmp_path, 200_000, parts=4)
    # The first part is the warm-up.
    assert held[-1]["dirty"] - held[0]["dirty"] <= SLACK, held


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_nothing_is_left_after_5_million_requests(processes: Processes, tmp_path: Path) -> None:
    held = await _soak(processes, tmp_path, 5_000_000, parts=10)
    # A megabyte for each million after the warm-up, which is the first half million.
    millions = 4.5
    assert held[-1]["dirty"] - held[0]["dirty"] <= 1024 * millions, held
