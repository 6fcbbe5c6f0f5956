"""Reading in portions, when much waits: who counts, who reads little from when on, and that no byte is lost."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from sidecar.app import App
from sidecar.policy.crowd import FEW, LEAST, WHOLE
from sidecar.wire.portion import InPortions, adapt_reading, succeed
from sidecar.wire.tunnel import TunnelServerConnection
from tests.interop.setups import config, session
from tests.support.http_service import HttpService, pattern
from tests.support.sidecar import running
from tests.wire.h1_peers import Downstream, FakeTransport, Upstream
from tests.wire.h2_peers import FakeRuntime

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"


class Taker:
    def __init__(self) -> None:
        self.came: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.came.append(data)


def crowded(runtime: Any, number: int = 100 * FEW) -> None:
    for _ in range(number):
        runtime.crowd.join()


def dispersed(runtime: Any) -> None:
    while runtime.crowd.waiting:
        runtime.crowd.leave()


class TestReading:
    def test_a_read_brings_a_portion_at_most(self) -> None:
        runtime: Any = FakeRuntime()
        reading = InPortions(Taker(), runtime)
        assert len(reading.get_buffer(-1)) == WHOLE
        crowded(runtime)
        assert len(reading.get_buffer(-1)) == LEAST

    def test_what_came_is_told_and_not_overwritten(self) -> None:
        runtime: Any = FakeRuntime()
        taker = Taker()
        reading = InPortions(taker, runtime)
        for piece in (b"first", b"second"):
            reading.get_buffer(-1)[: len(piece)] = piece
            reading.buffer_updated(len(piece))
        assert taker.came == [b"first", b"second"]

    def test_behind_a_whole_portion_is_more_and_what_it_brought_is_written_at_once(self) -> None:
        runtime: Any = FakeRuntime()
        crowded(runtime)
        reading = InPortions(Taker(), runtime)
        reading.buffer_updated(LEAST - 1)
        assert not runtime.turn.bulky
        reading.buffer_updated(LEAST)
        assert runtime.turn.bulky

    @pytest.mark.parametrize("paused", [False, True])
    def test_it_begins_and_ends_once_and_leaves_reading_as_it_was(self, paused: bool) -> None:
        runtime: Any = FakeRuntime()
        transport, taker = FakeTransport(), Taker()
        transport.protocol = taker
        if paused:
            transport.pause_reading()
        crowded(runtime)
        adapt_reading(transport, taker, runtime, paused)
        first = transport.protocol
        adapt_reading(transport, taker, runtime, paused)
        assert isinstance(first, InPortions)
        assert transport.protocol is first
        assert transport.reading is not paused
        dispersed(runtime)
        adapt_reading(transport, taker, runtime, paused)
        assert transport.get_protocol() is taker
        assert transport.reading is not paused

    def test_a_successor_is_read_as_the_one_before_it(self) -> None:
        runtime: Any = FakeRuntime()
        transport, taker, successor = FakeTransport(), Taker(), Taker()
        transport.protocol = taker
        crowded(runtime)
        adapt_reading(transport, taker, runtime, False)
        reading = transport.protocol
        succeed(transport, successor)
        assert transport.protocol is reading
        reading.buffer_updated(1)
        assert (len(taker.came), len(successor.came)) == (0, 1)


class TestCounting:
    def test_a_client_that_does_not_read_waits_and_so_does_what_was_read_for_it(self) -> None:
        down = Downstream()
        down.say(REQUEST)
        waiting = down.runtime.crowd
        down.connection.pause_writing()
        assert down.heard.log[-1] == ("full",)
        assert waiting.waiting == 1
        down.do(down.connection.pause)
        down.do(down.connection.pause)
        assert waiting.waiting == 2
        down.do(down.connection.resume)
        down.connection.resume_writing()
        assert waiting.waiting == 0

    def test_a_server_that_does_not_read(self) -> None:
        up = Upstream()
        up.connection.pause_writing()
        up.connection.pause()
        assert up.runtime.crowd.waiting == 2
        up.connection.resume()
        up.connection.resume_writing()
        assert up.runtime.crowd.waiting == 0

    def test_who_is_gone_waits_no_more(self) -> None:
        down, up = Downstream(), Upstream()
        down.say(REQUEST)
        for side in (down, up):
            connection: Any = side.connection
            connection.pause_writing()
            connection.pause()
            assert side.runtime.crowd.waiting == 2
            connection.connection_lost(None)
            assert side.runtime.crowd.waiting == 0

    def test_who_leaves_its_connection_to_another_waits_no_more(self) -> None:
        down = Downstream()
        down.transport.protocol = down.connection
        down.say(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
        down.connection.pause_writing()
        assert down.runtime.crowd.waiting == 1
        tunnel = TunnelServerConnection(down.runtime, lambda connection: None, "1.2.3.4:5")  # type: ignore[arg-type]
        down.do(lambda: down.connection.detach(lambda: tunnel))
        assert down.transport.protocol is tunnel
        assert down.runtime.crowd.waiting == 0
        # The transport tells its successor that there is room again, who had not been told otherwise.
        tunnel.resume_writing()
        assert down.runtime.crowd.waiting == 0

    def test_who_comes_into_a_crowd_reads_little_and_lets_little_wait(self) -> None:
        down = Downstream()
        crowded(down.runtime)
        transport = FakeTransport()
        transport.protocol = down.connection
        down.connection.connection_made(transport)
        assert isinstance(transport.protocol, InPortions)
        assert transport.limits == (LEAST, None)


def sidecar(body: Callable[[App], Awaitable[None]]) -> None:
    """Run `body` with a sidecar on uvloop, as it is run by `sidecar run`."""

    async def main() -> None:
        async with HttpService() as service, running(config([service.address])) as app:
            await body(app)

    uvloop.run(main())


def connections_of(app: App) -> list[Any]:
    """Of both sides."""
    found: list[Any] = [*app._connector.connections]
    return found + [each for listener in app.listeners.everyone() for each in listener.connections]


def test_who_is_there_when_it_begins_and_who_comes_later_lose_nothing() -> None:
    async def body(app: App) -> None:
        runtime = app.runtime
        async with session(app) as early, session(app) as late:
            for number in (FEW + 1, 10 * FEW):
                async with early.get("/bytes/100") as response:
                    assert response.status == 200
                crowded(runtime, number)
                for client in (early, late):
                    async with client.post("/echo/raw", data=io.BytesIO(pattern(300_000))) as response:
                        assert await response.read() == pattern(300_000)
                    async with client.get("/bytes/1000000") as response:
                        assert await response.read() == pattern(1_000_000)
            connections = connections_of(app)
            assert len(connections) >= 3
            for connection in connections:
                assert isinstance(connection.transport.get_protocol(), InPortions)
            dispersed(runtime)
            for connection in connections:
                assert connection.transport.get_protocol() is connection
            async with early.get("/bytes/1000000") as response:
                assert await response.read() == pattern(1_000_000)

    sidecar(body)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_who_is_closing_is_left_alone(end: str) -> None:
    """Its answer still goes out, or it is as good as gone."""

    async def body(app: App) -> None:
        host, port = app.address("out").host, app.address("out").port
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /bytes/8000000 HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readexactly(1000)
        for connection in connections_of(app):
            getattr(connection.transport, end)()
        crowded(app.runtime)
        dispersed(app.runtime)
        writer.transport.abort()

    sidecar(body)
