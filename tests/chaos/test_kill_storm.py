"""Endpoints that are killed one after the other, for as long as the load lasts.

No GET fails. A POST is acknowledged only by a service that wrote its id down and synced it:
what was acknowledged ran exactly once, and nothing ran twice, whatever became of its answer.
"""

import asyncio
from collections import Counter
from itertools import count, cycle
from pathlib import Path

import pytest

from tests.support.processes import Processes, Service
from tests.support.sidecar import SidecarProcess
from tests.support.swift_client import Fields, Http1Client, Http2Client
from tests.support.swift_service import METHODS

RATE = 400  # requests per second, every fourth one a POST
KILL_EVERY = 1.25  # seconds

CONFIG = """
admin: {{bind: "127.0.0.1:0"}}
clusters:
  web:
    endpoints: [{endpoints}]
    retry: {{idempotent: [swift.Ledger/Read, swift.Ledger/ReadLate]}}
listeners:
  out: {{bind: "127.0.0.1:0", routes: [{{to: web}}]}}
"""
PROTOCOLS = ("http1", "http2", "grpc")
# What a good answer says.
GOOD = {"http1": "200", "http2": "200", "grpc": "grpc 0"}
HTTP2_CONNECTIONS = 4


class Callers:
    """An open loop: a request begins when its time has come, whatever became of those before.
    With gRPC, GET is a method that is listed as idempotent, and POST one that is not."""

    def __init__(self, port: int, protocol: str) -> None:
        self._port = port
        self._protocol = protocol
        self._idle: list[Http1Client] = []
        self._shared = [Http2Client("127.0.0.1", port) for _ in range(HTTP2_CONNECTIONS)]
        self._numbers = count()
        # By turns one that is answered at once, and one that is under way for 20 ms.
        methods = list(METHODS.items())
        self._reads, self._writes = cycle(methods[:2]), cycle(methods[2:])
        self.gets: Counter[str] = Counter()
        self.posts: Counter[str] = Counter()
        self.acknowledged: list[str] = []

    async def run(self, seconds: float) -> None:
        """So many seconds of load."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * RATE)):
                await asyncio.sleep(max(0.0, start + number / RATE - loop.time()))
                group.create_task(self._post() if number % 4 == 0 else self._get())

    def close(self) -> None:
        """Cut all connections."""
        for single in self._idle:
            single.close()
        for shared in self._shared:
            shared.close()

    async def _get(self) -> None:
        self.gets[await self._said(b"GET", *next(self._reads), b"", [])] += 1

    async def _post(self) -> None:
        identity = f"order-{next(self._numbers)}"
        said = await self._said(b"POST", *next(self._writes), b"{}", [(b"x-request-id", identity.encode())])
        self.posts[said] += 1
        if said == GOOD[self._protocol]:
            self.acknowledged.append(identity)

    async def _said(self, method: bytes, rpc: bytes, path: bytes, body: bytes, fields: Fields) -> str:
        try:
            if self._protocol == "http1":
                # A connection for each that waits: none is held up by another.
                client = self._idle.pop() if self._idle else Http1Client("127.0.0.1", self._port)
                try:
                    return (await client.request(method, path, body, fields)).said
                finally:
                    self._idle.append(client)
            shared = self._shared[next(self._numbers) % HTTP2_CONNECTIONS]
            if self._protocol == "grpc":
                return (await shared.call(rpc, body, fields)).said
            return (await shared.request(method, path, body, fields)).said
        except ConnectionError as error:
            return repr(error)


async def _storm(processes: Processes, folder: Path, protocol: str, seconds: float) -> None:
    # Given three services that keep a ledger each, under a steady load
    ledgers = [folder / f"ledger-{number}" for number in range(3)]
    options = [] if protocol == "http1" else ["--http2"]
    services = [
        await processes.service("tests.support.swift_service", "--ledger", str(path), *options) for path in ledgers
    ]
    endpoints = ", ".join(f'"{service.address}"' for service in services)
    sidecar = SidecarProcess(folder, CONFIG.format(endpoints=endpoints))
    processes.own(sidecar)
    await sidecar.serve()
    callers = Callers(sidecar.port("out"), protocol)
    # When one of them is killed every 1.25 seconds, and comes back
    killer = asyncio.create_task(_kill(services))
    try:
        await callers.run(seconds)
    finally:
        killer.cancel()
        callers.close()
    # Then no GET failed
    assert callers.gets == {GOOD[protocol]: sum(callers.gets.values())}
    assert sum(callers.gets.values()) + sum(callers.posts.values()) == int(seconds * RATE)
    # And what was acknowledged ran once, and nothing twice
    ran = Counter(line for path in ledgers for line in path.read_text().split())
    assert [identity for identity, times in ran.items() if times > 1] == []
    assert set(callers.acknowledged) - ran.keys() == set()
    # And most POSTs went through: what failed were those under way at a kill
    assert len(callers.acknowledged) >= 0.98 * sum(callers.posts.values()), callers.posts


async def _kill(services: list[Service]) -> None:
    for service in cycle(services):
        await asyncio.sleep(KILL_EVERY / 2)
        service.kill()
        await asyncio.sleep(KILL_EVERY / 2)
        await service.restart()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_services_are_killed_in_turn(protocol: str, processes: Processes, tmp_path: Path) -> None:
    await _storm(processes, tmp_path, protocol, 10.0)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_services_are_killed_in_turn_for_a_minute(protocol: str, processes: Processes, tmp_path: Path) -> None:
    await _storm(processes, tmp_path, protocol, 60.0)
