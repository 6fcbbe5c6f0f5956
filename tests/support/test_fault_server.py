"""The fault server breaks where it is told to, and counts what it read wholly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import grpc
import pytest

from tests.support import faults
from tests.support.fault_server import FaultServer, Step, refusing_port, silent_port


@asynccontextmanager
async def client(server: FaultServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        f"http://{server.address}", timeout=aiohttp.ClientTimeout(total=10), connector=aiohttp.TCPConnector(limit=1)
    ) as session:
        yield session


async def test_answers_and_records_over_one_connection() -> None:
    async with FaultServer(faults.answer(201, b"made")) as server, client(server) as session:
        async with session.post("/a?b=1", data=b"body", headers={"X-One": "1"}) as response:
            assert (response.status, await response.read()) == (201, b"made")
        async with session.put("/chunks", data=_pieces()) as response:
            assert await response.read() == b"ok"
    first, second = server.requests
    assert (first.method, first.path, first.body, first.header("x-one")) == ("POST", "/a?b=1", b"body", "1")
    assert (second.body, second.connection) == (b"onetwo", 0)


async def _pieces() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


@pytest.mark.parametrize(
    ("step", "committed"),
    [
        (faults.reset_before_head, 0),
        (faults.close_before_head, 0),
        (faults.commit_then_reset, 1),
        (faults.commit_then_close, 1),
        (faults.commit_then_half_close, 1),
        (faults.garbage, 1),
        (faults.partial_body(), 1),
        (faults.partial_body(length=None), 1),
        (faults.partial_body(end="close"), 1),
    ],
)
async def test_broken_exchanges_over_http1(step: Step, committed: int) -> None:
    async with FaultServer(step) as server, client(server) as session:
        with pytest.raises(aiohttp.ClientError):
            # POST: aiohttp repeats a GET by itself.
            async with session.post("/", data=b"x") as response:
                await response.read()
    assert len(server.requests) == committed


async def test_reset_is_a_reset() -> None:
    async with FaultServer(faults.commit_then_reset) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_stall_lasts_until_the_client_goes() -> None:
    async with FaultServer(faults.stall) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await server.until(lambda s: len(s.requests) == 1)
        assert server.deserted == 0
        writer.close()
        await server.until(lambda s: s.deserted == 1)


async def test_connection_that_dies_while_idle() -> None:
    async with FaultServer(faults.ok, faults.close_before_head) as server, client(server) as session:
        async with session.post("/") as response:
            assert await response.read() == b"ok"
        with pytest.raises(aiohttp.ClientError):
            await session.post("/")
    assert (len(server.requests), len(server.connections)) == (1, 1)


async def test_expect_continue_early_answer_and_informational() -> None:
    steps = (faults.ok, faults.informational(), faults.early_answer())
    async with FaultServer(*steps) as server, client(server) as session:
        async with session.post("/", data=b"x", expect100=True) as response:
            assert await response.read() == b"ok"
        async with session.get("/") as response:
            assert (response.status, await response.read()) == (200, b"ok")
        async with session.post("/", data=b"y") as response:
            assert response.status == 413
    assert [request.body for request in server.requests] == [b"x", b""]


async def test_accept_faults_and_ports_without_a_server() -> None:
    async with FaultServer(accepts=(faults.close_at_accept, faults.reset_at_accept)) as server:
        for expected in (b"", None):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                assert await reader.read() == expected
            except ConnectionResetError:
                assert expected is None
            writer.close()
    async with refusing_port() as port:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    async with silent_port() as port:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 0.05)


async def call(server: FaultServer, message: bytes = b"m") -> bytes:
    async with grpc.aio.insecure_channel(server.address) as channel:
        answer: bytes = await channel.unary_unary("/pkg.S/M")(message, timeout=10)
        return answer


async def test_grpc_answer_and_large_messages_over_http2() -> None:
    large = bytes(1 << 20)
    async with FaultServer(then=faults.grpc_answer(large)) as server:
        assert await call(server, large) == large
    (request,) = server.requests
    assert (request.method, request.path, len(request.body)) == ("POST", "/pkg.S/M", len(large) + 5)


@pytest.mark.parametrize(
    ("step", "code", "committed"),
    [
        (faults.grpc_answer(code=5, text="gone"), grpc.StatusCode.NOT_FOUND, 1),
        (faults.grpc_trailers_only(14, "busy"), grpc.StatusCode.UNAVAILABLE, 1),
        (faults.refused_stream, grpc.StatusCode.UNAVAILABLE, 0),
        (faults.rst_stream(faults.INTERNAL_ERROR), grpc.StatusCode.INTERNAL, 0),
        (faults.rst_stream(faults.ENHANCE_YOUR_CALM, commit=True), grpc.StatusCode.RESOURCE_EXHAUSTED, 1),
        (faults.commit_then_reset, grpc.StatusCode.UNAVAILABLE, 1),
    ],
)
async def test_broken_streams(step: Step, code: grpc.StatusCode, committed: int) -> None:
    async with FaultServer(step) as server:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(server)
    assert raised.value.code() is code
    assert len(server.requests) == committed


async def test_goaway_with_the_stream_served_and_not() -> None:
    served, above = faults.grpc_answer(b"1"), faults.grpc_answer(b"2")
    async with (
        FaultServer(faults.goaway(served=True, then=served), faults.goaway(), then=above) as server,
        # grpcio repeats by itself what was provably not processed.
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        method = channel.unary_unary("/pkg.S/M")
        assert await method(b"", timeout=10, wait_for_ready=True) == b"1"
        assert await method(b"", timeout=10, wait_for_ready=True) == b"2"
    assert (len(server.connections), len(server.heads), len(server.requests)) == (3, 3, 2)


async def test_cancelled_stream_is_seen() -> None:
    async with (
        FaultServer(faults.stall) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        pending = channel.unary_unary("/pkg.S/M")(b"")
        await server.until(lambda s: len(s.requests) == 1)
        pending.cancel()
        await server.until(lambda s: s.deserted == 1)


async def test_a_wrong_step_fails_the_test() -> None:
    async def wrong(_: object) -> None:
        raise AssertionError("the step's own check")

    async def scenario() -> None:
        async with FaultServer(wrong) as server, client(server) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.post("/")

    with pytest.raises(AssertionError, match="the step's own check"):
        await scenario()
