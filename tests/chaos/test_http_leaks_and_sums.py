"""After mixed traffic nothing is left over, and every number adds up with what was sent."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from sidecar.app import App
from tests.chaos.watching import Leftovers, Metrics, eventually, metrics
from tests.interop.setups import QUICK, config, session
from tests.support import faults
from tests.support.fault_server import FaultServer
from tests.support.sidecar import running

REQUESTS = 5000
WORKERS = 25
STEPS = (
    faults.ok,
    faults.ok,
    faults.answer(200, bytes(100_000)),
    faults.answer(503, b"no"),
    faults.answer(200, b"x", trailers=[(b"a", b"b")]),
    faults.commit_then_reset,
    faults.commit_then_close,
    faults.partial_body(),
    faults.answer_then_close(announced=True),
    faults.answer_then_close(),
    faults.garbage,
    faults.stall,
)
METHODS = ("GET", "POST", "PUT", "HEAD", "DELETE")
# Failures are the point here: the breaker must not keep them away.
CLUSTER = {
    "retry": dict(QUICK),
    "timeouts": {"request": "150ms"},
    "breaker": {"consecutive": 0, "failure_ratio": 1, "min_requests": 1000000},
}


class Traffic:
    """Callers of all kinds; `seen` counts what they got."""

    def __init__(self, app: App, seed: int) -> None:
        self._rng = random.Random(seed)
        self._address = app.address("out")
        self.seen: Counter[str] = Counter()
        self.methods: Counter[str] = Counter()

    async def run(self, requests: int, workers: int) -> None:
        """So many requests, by so many callers at once."""
        async with (
            aiohttp.ClientSession(f"http://{self._address}", connector=aiohttp.TCPConnector(limit=0)) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(workers):
                group.create_task(self._work(client, requests // workers))

    async def _work(self, client: aiohttp.ClientSession, requests: int) -> None:
        for _ in range(requests):
            method = self._rng.choice(METHODS)
            body = bytes(self._rng.choice((0, 10, 50_000))) if method in ("POST", "PUT") else None
            path = self._rng.choice(("/", "/", "/", "/nowhere"))
            self.methods[method] += 1
            try:
                # Some callers have no patience.
                async with asyncio.timeout(self._rng.choice((10, 10, 10, 0.02))):
                    async with client.request(method, path, data=body) as response:
                        await response.read()
                        self.seen[str(response.status)] += 1
            except TimeoutError:
                self.seen["left"] += 1
            except aiohttp.ClientError:
                self.seen["broken"] += 1


@pytest.mark.slow
async def test_nothing_is_left_over_after_5000_mixed_requests() -> None:
    rng = random.Random(3)
    listener = {"routes": [{"match": {"path": "/"}, "to": "web"}]}
    async with (
        FaultServer(*(rng.choice(STEPS) for _ in range(3 * REQUESTS))) as server,
        running(config([server.address], CLUSTER, listener)) as app,
    ):
        await Traffic(app, 0).run(WORKERS, WORKERS)
        before = await _settled(app, server)
        traffic = Traffic(app, 1)
        await traffic.run(REQUESTS, WORKERS)
        await _settled(app, server)
        await eventually(lambda: Leftovers.of(app) == before, f"{before} again, not {Leftovers.of(app)}")
        # It was as mixed as it is meant to be.
        assert {"200", "404", "502", "503", "504", "left", "broken"} <= traffic.seen.keys()


async def _settled(app: App, server: FaultServer) -> Leftovers:
    """Leftovers once all that was under way is over, and no connection is kept."""
    await eventually(lambda: app.runtime.in_flight == 0, "no exchange is under way")
    server.close_connections()
    await eventually(
        lambda: not any(app.runtime.connections.values()) and not server.open_connections,
        "all connections are closed",
    )
    # Timers of the wheel: the clusters' own are all that may wait.
    await eventually(lambda: Leftovers.of(app).timers <= 2, "no timer is left")
    # The last tasks of client and server still have to see that they are over.
    seen = [Leftovers.of(app)]
    while len(seen) < 20 or len(set(seen[-20:])) > 1:
        await asyncio.sleep(0.002)
        seen.append(Leftovers.of(app))
    return seen[-1]


async def test_metrics_and_access_log_add_up_with_what_was_sent(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    rng = random.Random(5)
    listener = {"routes": [{"match": {"path": "/"}, "to": "web"}]}
    async with FaultServer(*(rng.choice(STEPS) for _ in range(1000))) as server:
        async with running(config([server.address], CLUSTER, listener, access_log=str(log))) as app:
            # No second try of the client's own: what it sends are POSTs.
            sent: Counter[str] = Counter()
            async with session(app, connector=aiohttp.TCPConnector(limit=0)) as client:
                for number in range(300):
                    path = "/nowhere" if number % 10 == 0 else "/"
                    headers = {"idempotency-key": str(number)} if number % 2 else {}
                    try:
                        async with client.post(path, data=b"12345", headers=headers) as response:
                            sent[str(response.status)] += 1
                            await response.read()
                    except aiohttp.ClientPayloadError:
                        pass
            await eventually(lambda: app.runtime.in_flight == 0, "no exchange is under way")
            seen = await metrics(app.address("admin"))
            _adds_up(seen, sent, server)
        _lines_add_up([json.loads(line) for line in log.read_text().splitlines()], sent, server)


def _adds_up(seen: Metrics, sent: Counter[str], server: FaultServer) -> None:
    assert sum(sent.values()) == 300
    for code, number in sent.items():
        assert seen.total("sidecar_requests_total", code=code) == number, code
    assert seen.total("sidecar_requests_total") == 300
    assert seen.total("sidecar_requests_total", cluster="web") == 270
    assert seen.total("sidecar_request_duration_seconds_count", cluster="web") == 270
    retries = seen.total("sidecar_retries_total", cluster="web")
    attempts = seen.total("sidecar_attempts_total", cluster="web")
    assert attempts == 270 + retries
    # Each try was one request at the server, but those that never left us.
    assert len(server.requests) <= attempts
    assert seen.total("sidecar_attempt_duration_seconds_count", cluster="web") == attempts
    assert seen.total("sidecar_local_replies_total", reason="no_route") == 30
    assert seen.total("sidecar_requests_in_flight", cluster="web") == 0
    assert seen.total("sidecar_endpoint_in_flight", cluster="web") == 0


def _lines_add_up(lines: list[dict[str, object]], sent: Counter[str], server: FaultServer) -> None:
    assert Counter(str(line["status"]) for line in lines) == sent
    # What no route takes is answered before its body is read.
    assert sum(int(str(line["bytes_in"])) for line in lines) == 270 * 5
    assert {line["method"] for line in lines} == {"POST"}
    assert {line["cluster"] for line in lines if line["path"] == "/nowhere"} == {""}
    assert {line["endpoint"] for line in lines if line["path"] == "/"} == {server.address}
