"""Streams: they outlive what bounds unary calls, keep their order, and a side that stops
reading bounds our memory and slows the other side."""

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.codec.h2 import MAX_FRAME, STREAM_WINDOW
from tests.interop.grpc_calls import bidi, channel_to, cluster_of, config, quiet, streamed, through, unary
from tests.support import faults
from tests.support.fault_h2 import Http2Exchange
from tests.support.fault_server import Exchange, FaultServer
from tests.support.grpc_service import GrpcService
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess, running

MIB = 1 << 20
# Every timeout of a unary call, far shorter than the streams below live.
SHORT = {"request": "150ms", "try": "100ms"}
# grpcio opens its windows the wider the faster a link seems to it, beyond the 64 MiB that want
# through: how much it takes in advance is then its own doing, and changes with the machine's load.
# Without that, its window is 64 KiB.
STEADY = ("grpc.http2.bdp_probe", 0)
# What one stream may have under way: a window of ours, grpcio's, and what sockets hold.
IN_BETWEEN = 4 * STREAM_WINDOW


async def test_a_bidi_stream_outlives_every_unary_timeout(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address, timeouts=SHORT)) as app, through(app) as channel:
        call = bidi(channel)
        for number in range(3):
            for part in range(20):
                await call.write(b"%d.%d" % (number, part))
            for part in range(20):
                assert await call.read() == b"%d.%d" % (number, part)
            await asyncio.sleep(0.4)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert b"/test.Echo/Bidi" in cluster_of(app).streaming
        # A unary method beside it is bounded as before.
        outcome = await unary(channel, "Slow", metadata=(("x-ms", "5000"),))
        assert outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await quiet(app)


async def test_client_and_server_streams_outlive_them_as_well(grpc_service: GrpcService) -> None:
    async def slowly() -> Any:
        for _ in range(4):
            yield b"x"
            await asyncio.sleep(0.1)

    async with running(config(grpc_service.address, timeouts=SHORT)) as app, through(app) as channel:
        assert await channel.stream_unary("/test.Echo/ClientStream")(slowly()) == b"xxxx"
        # The second time the method is known: nothing need be sent in time.
        call = channel.stream_unary("/test.Echo/ClientStream")()
        await asyncio.sleep(0.3)
        await call.write(b"late")
        await call.done_writing()
        assert await call == b"late"
        await quiet(app)


async def test_a_listed_stream_may_be_silent_from_the_start(grpc_service: GrpcService) -> None:
    timeouts = {**SHORT, "streams": ["test.Echo/Bidi"]}
    async with running(config(grpc_service.address, timeouts=timeouts)) as app, through(app) as channel:
        call = bidi(channel)
        await asyncio.sleep(0.4)
        await call.write(b"late")
        assert await call.read() == b"late"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await quiet(app)


async def test_an_idle_timeout_ends_a_silent_stream_and_no_busy_one(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address, timeouts={"idle": "1s"})) as app, through(app) as channel:
        busy, silent = bidi(channel), bidi(channel)
        for call in (busy, silent):
            await call.write(b"1")
            assert await call.read() == b"1"
        while not silent.done():
            await asyncio.sleep(0.1)
            await busy.write(b"2")
            assert await busy.read() == b"2"
        assert await silent.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(await silent.trailing_metadata())["x-sidecar-error"] == "timeout"
        await busy.done_writing()
        assert await busy.code() is grpc.StatusCode.OK
        await quiet(app)


class Flood:
    """A server stream of 64 MiB; `sent` is what the peer's window let out."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send_head(200, [(b"content-type", b"application/grpc")])
        message = b"\x00" + (16_379).to_bytes(4, "big") + bytes(16_379)
        for _ in range(4096):
            await exchange.send_data(message)
            self.sent += len(message)
        await exchange.send_trailers([(b"grpc-status", b"0")])


async def settled(value: Any) -> int:
    """A number once it has stopped growing."""
    before = -1
    async with asyncio.timeout(20):
        while (now := value()) != before or not now:
            before = now
            await asyncio.sleep(0.2)
    return int(before)


async def test_a_reader_that_stops_slows_the_server(grpc_service: GrpcService) -> None:
    flood = Flood()
    async with (
        FaultServer(flood, then=faults.grpc_answer()) as server,
        running(config(server.address)) as app,
        through(app, STEADY) as channel,
    ):
        call = channel.unary_stream("/test.Echo/ServerStream")(b"")
        assert len(await call.read()) == 16_379
        assert await settled(lambda: flood.sent) < IN_BETWEEN
        # Others go on over the same two connections.
        outcomes = await asyncio.gather(*(unary(channel, "Unary") for _ in range(20)))
        assert {outcome.code for outcome in outcomes} == {grpc.StatusCode.OK}
        assert len(server.connections) == 1
        # What waits here: at most a window of what came, and a frame of what goes out.
        downstream = [each for each in app.listeners["out"].connections if each.protocol == "http2"]
        queued = sum(each.h2.queued_body_size(number) for each in downstream for number in each.streams)
        assert 0 < queued <= STREAM_WINDOW + MAX_FRAME
        received = 1
        while await call.read() is not grpc.aio.EOF:
            received += 1
        assert (received, await call.code()) == (4096, grpc.StatusCode.OK)
        await quiet(app)


async def test_a_server_that_stops_reading_slows_the_client() -> None:
    gate = asyncio.Event()

    async def stalls(exchange: Exchange) -> None:
        assert isinstance(exchange, Http2Exchange)
        exchange.reading = False
        await exchange.head()
        await gate.wait()
        exchange.abandon(0x8)

    async with FaultServer(stalls) as server, running(config(server.address)) as app, through(app) as channel:
        call = channel.stream_unary("/test.Echo/ClientStream")()
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(1024):
                await call.write(bytes(65_536))
                written += 65_536

        writing = asyncio.create_task(write())
        assert await settled(lambda: written) < IN_BETWEEN
        gate.set()
        # grpc.aio calls a write that meets the end INTERNAL, if that is told before the end.
        assert await call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
            await writing
        await quiet(app)


async def test_memory_of_the_process_while_nobody_reads(processes: Processes, tmp_path: Path) -> None:
    flood = Flood()
    floods = 8
    async with FaultServer(then=flood) as server:
        sidecar = SidecarProcess(tmp_path, config(server.address))
        processes.own(sidecar)
        await sidecar.serve()
        async with channel_to(f"127.0.0.1:{sidecar.port('out')}", STEADY) as channel:
            calls = [channel.unary_stream("/test.Echo/ServerStream")(b"") for _ in range(floods)]
            first = await calls[0].read()
            before = _rss(sidecar.pid)
            assert await settled(lambda: flood.sent) < floods * IN_BETWEEN
            # Eight windows of ours would be 2 MiB.
            assert _rss(sidecar.pid) - before < 8 * MIB
            for call in calls:
                call.cancel()
            assert len(first) == 16_379


async def test_streams_side_by_side_keep_their_order_and_their_bytes(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address)) as app, through(app) as channel:

        async def talk(name: int) -> bool:
            call = bidi(channel)
            sent = [b"%d:%d:" % (name, number) + b"x" * (number * 97 % 5_000) for number in range(150)]
            for message in sent[:75]:
                await call.write(message)
            received = [await call.read() for _ in range(50)]
            for message in sent[75:]:
                await call.write(message)
            await call.done_writing()
            while (message := await call.read()) is not grpc.aio.EOF:
                received.append(message)
            return received == sent

        talks = [talk(name) for name in range(20)]
        flows = [streamed(channel, "ServerStream", b"y" * 20_000, (("x-count", "50"),)) for _ in range(5)]
        assert all(await asyncio.gather(*talks))
        assert {outcome.messages for outcome in await asyncio.gather(*flows)} == {(b"y" * 20_000,) * 50}
        await quiet(app)


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
