"""A running admin server over a runtime without sockets, and a client for it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from sidecar.admin.operations import FAILED, OK, Check
from sidecar.admin.server import AdminServer, start
from sidecar.config.load import load_text
from sidecar.model.address import Address
from sidecar.proxy.runtime import Runtime
from sidecar.telemetry.events import Events
from sidecar.telemetry.notable import Notable
from tests.support.clock import FakeClock
from tests.telemetry.parts import Parts, route_to

CONFIG = """
service: checkout
admin: {bind: 127.0.0.1:0}
clusters:
  users: {endpoints: [127.0.0.1:8001]}
listeners:
  out:
    bind: 127.0.0.1:0
    routes:
      - {to: users, headers: {request: {set: {x-api-key: hunter2}}}}
"""


class FakeSidecar:
    """Operations, with nothing behind them."""

    service = "checkout"
    version = "1.2.3"

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.spec = load_text(CONFIG, "sidecar.yaml", {})
        self.loaded_at = datetime(2026, 1, 2, tzinfo=UTC)
        self.last_rejected: dict[str, Any] | None = None
        self.reloads = {"ok": 4}
        self.events = Events()
        self.notable = Notable()
        self.errors: list[str] = []
        self.parts_down: set[str] = set()
        self.calls: list[str] = []

    async def reload(self) -> list[str]:
        self.calls.append("reload")
        return self.errors

    def drain(self) -> None:
        self.calls.append("drain")
        self.runtime.draining = True

    def quit(self) -> None:
        self.calls.append("quit")

    def checks(self) -> dict[str, Check]:
        return {name: Check(FAILED if name in self.parts_down else OK) for name in ("config", "listeners")}


class Client:
    """Calls the server; answers are (status, JSON)."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def get(self, path: str) -> tuple[int, Any]:
        return await self.call("GET", path)

    async def post(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        return await self.call("POST", path, headers)

    async def call(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        async with self.session.request(method, self.base + path, headers=headers) as response:
            return response.status, await response.json()


@pytest.fixture
def parts(clock: FakeClock) -> Parts:
    """A runtime with one cluster of three kinds of addresses."""
    parts = Parts(clock)
    users = parts.cluster("users", "10.0.0.1:80", "[::1]:80", "unix:/run/users.sock")
    parts.go_live(route_to(users))
    return parts


@pytest.fixture
def sidecar(parts: Parts) -> FakeSidecar:
    """What the server serves."""
    return FakeSidecar(parts.runtime)


@pytest.fixture
async def server(sidecar: FakeSidecar) -> AsyncIterator[AdminServer]:
    """The server, on a port of its own."""
    server = await start(sidecar, Address("127.0.0.1", 0))
    yield server
    sidecar.events.close()
    await server.stop()


@pytest.fixture
async def client(server: AdminServer) -> AsyncIterator[Client]:
    """A client of that server."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield Client(session, f"http://{server.address}")
