"""Both connections on real sockets and uvloop, between an unmodified grpcio client
and server: a pass-through of streams with nothing of the exchange in between."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import uvloop

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.proxy.runtime import Runtime
from sidecar.wire.h2_client import H2ClientConnection
from sidecar.wire.h2_server import H2ServerConnection
from sidecar.wire.timers import Timers
from sidecar.wire.turn import Turn
from tests.support.grpc_service import OPTIONS, SERVICE, GrpcService

MIB = 1024 * 1024


class Relay:
    """A receiver that gives everything to the other side."""

    def __init__(self) -> None:
        self.stream: Any = None  # the one it hears
        self.other: Any = None

    def on_head(self, head: ResponseHead, end: bool) -> None:
        self.other.send_head(head, end)

    def on_informational(self, head: ResponseHead) -> None:
        self.other.send_informational(head)

    def on_data(self, data: bytes, end: bool) -> None:
        if not self.other.send_data(data, end):
            self.stream.pause()

    def on_trailers(self, trailers: Headers) -> None:
        self.other.send_trailers(trailers)

    def on_full(self) -> None:
        self.other.pause()

    def on_writable(self) -> None:
        self.other.resume()

    def on_reset(self, failure: Failure) -> None:
        self.other.reset(failure)

    def on_crash(self, error: Exception) -> None:
        raise error


class PassThrough:
    """One upstream connection, a listener, and what connects the two."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        turn = Turn(loop)
        timers = Timers(loop, turn, time.monotonic)
        snapshot: Any = None
        self.runtime = Runtime(turn, timers, time.monotonic, random.Random(1), snapshot)
        self.crashes: list[BaseException] = []
        self.runtime.on_crash = self.crashes.append
        self.upstream: Any = None
        self.downstream: list[H2ServerConnection] = []
        self.all_closed = asyncio.Event()
        self.port = 0

    def on_available(self, connection: Any) -> None: ...
    def on_draining(self, connection: Any) -> None: ...

    def on_closed(self, connection: Any) -> None:
        if connection in self.downstream:
            self.downstream.remove(connection)
        if not self.downstream:
            self.all_closed.set()

    def begin(self, stream: Any, head: RequestHead, end: bool) -> None:
        hears_down, hears_up = Relay(), Relay()
        upstream = self.upstream.open(hears_up)
        if upstream is None:
            stream.reset(Failure.OVERLOADED)
            return
        hears_down.stream, hears_down.other = stream, upstream
        hears_up.stream, hears_up.other = upstream, stream
        stream.receiver = hears_down
        upstream.send_head(head, end)

    def accept(self) -> H2ServerConnection:
        connection = H2ServerConnection(self.runtime, self.begin, self.on_closed)
        self.downstream.append(connection)
        self.all_closed.clear()
        return connection


@asynccontextmanager
async def pass_through(service: GrpcService) -> AsyncIterator[PassThrough]:
    loop = asyncio.get_running_loop()
    proxy = PassThrough()
    _, proxy.upstream = await loop.create_connection(
        lambda: H2ClientConnection(proxy.runtime, proxy), "127.0.0.1", service.port
    )
    server = await loop.create_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for connection in [*proxy.downstream, proxy.upstream]:
            connection.abort()
        await server.wait_closed()
        proxy.runtime.timers.close()  # type: ignore[attr-defined]


def on_uvloop(body: Callable[[GrpcService, PassThrough, Any], Awaitable[None]]) -> None:
    """Run a test between a service and a channel, on uvloop."""

    async def main() -> None:
        async with GrpcService() as service, pass_through(service) as proxy:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}", options=OPTIONS) as channel:
                await asyncio.wait_for(body(service, proxy, channel), 30)
            assert proxy.crashes == []

    uvloop.run(main())


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop run until something is so; the test's own time limit bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.001)


def test_every_cardinality() -> None:
    async def body(service: GrpcService, proxy: PassThrough, channel: Any) -> None:
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        assert await asyncio.gather(*(unary(b"%d" % n) for n in range(300))) == [b"%d" % n for n in range(300)]
        stream = channel.unary_stream(f"/{SERVICE}/ServerStream")
        assert [message async for message in stream(b"a", metadata=(("x-count", "50"),))] == [b"a"] * 50

        async def parts() -> AsyncIterator[bytes]:
            for number in range(50):
                yield b"%d," % number

        joined = await channel.stream_unary(f"/{SERVICE}/ClientStream")(parts())
        assert joined == b"".join([b"%d," % number for number in range(50)])
        bidi = channel.stream_stream(f"/{SERVICE}/Bidi")
        assert [message async for message in bidi(parts())] == [b"%d," % number for number in range(50)]
        assert service.calls["Unary"] == 300
        assert proxy.upstream.open_streams == 0

    on_uvloop(body)


def test_messages_of_8_mib_both_ways() -> None:
    async def body(service: GrpcService, proxy: PassThrough, channel: Any) -> None:
        message = bytes(range(256)) * (8 * MIB // 256)
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        answers = await asyncio.gather(*(unary(message) for _ in range(3)))
        assert all(answer == message for answer in answers)

    on_uvloop(body)


def test_errors_and_their_trailers() -> None:
    async def body(service: GrpcService, proxy: PassThrough, channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/{SERVICE}/Fail")(b"", metadata=(("x-details", "50% off"),))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "50% off"
        trailers = dict(caught.value.trailing_metadata())
        assert trailers["x-trace"] == "abc"
        assert trailers["x-blob-bin"] == b"\x00\xff\x01"

    on_uvloop(body)


def test_cancelled_calls_leave_nothing_behind() -> None:
    async def body(service: GrpcService, proxy: PassThrough, channel: Any) -> None:
        hang = channel.unary_unary(f"/{SERVICE}/Hang")
        calls = [hang(b"") for _ in range(50)]
        await until(lambda: service.calls["Hang"] == 50)
        for call in calls:
            call.cancel()
        await until(lambda: service.cancelled == 50 and not proxy.upstream.open_streams)
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        await asyncio.gather(*(unary(b"x") for _ in range(200)))
        assert not proxy.upstream.draining
        assert proxy.upstream.streams == {}

    on_uvloop(body)


def test_a_drain_under_way_fails_no_call() -> None:
    async def body(service: GrpcService, proxy: PassThrough, channel: Any) -> None:
        unary = channel.unary_unary(f"/{SERVICE}/Slow")
        calls = [unary(b"x", metadata=(("x-ms", "50"),)) for _ in range(20)]
        await until(lambda: service.calls["Slow"] == 20)
        drained = proxy.downstream[0]
        drained.drain()
        calls += [unary(b"x", metadata=(("x-ms", "1"),)) for _ in range(20)]
        assert await asyncio.gather(*calls) == [b"x"] * 40
        await until(lambda: drained not in proxy.downstream)

    on_uvloop(body)


def test_a_slow_reader_slows_the_writer() -> None:
    async def body(service: GrpcService, proxy: PassThrough, channel: Any) -> None:
        # 64 MiB in all; nothing is read until the writer must have come to a stop.
        call = channel.unary_stream(f"/{SERVICE}/ServerStream")(bytes(MIB), metadata=(("x-count", "64"),))
        await until(lambda: any(stream.paused for stream in proxy.upstream.streams.values()))
        stream = next(iter(proxy.upstream.streams.values()))
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert proxy.downstream[0].h2.queued_body_size() + stream.held < MIB
        received = 0
        async for message in call:
            received += len(message)
        assert received == 64 * MIB

    on_uvloop(body)
