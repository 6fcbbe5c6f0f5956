"""What a grpcio client sees through the sidecar is what it sees without it."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import grpc
import pytest

from sidecar.app import App
from tests.interop.grpc_calls import (
    Outcome,
    bidi,
    channel_to,
    cluster_of,
    config,
    quiet,
    streamed,
    through,
    unary,
)
from tests.support import faults
from tests.support.fault_h2 import Http2Exchange
from tests.support.fault_server import Exchange, FaultServer
from tests.support.grpc_service import GrpcService
from tests.support.sidecar import running

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
BLOB = bytes(range(256))


@pytest.fixture
async def app(grpc_service: GrpcService) -> AsyncIterator[App]:
    async with running(config(grpc_service.address)) as app:
        yield app
        await quiet(app)


async def both(app: App, service: GrpcService, method: str, message: bytes = b"", **more: object) -> Outcome:
    """The outcome of a call, the same direct and through the sidecar."""
    call = streamed if method.endswith("Stream") else unary
    async with through(app) as proxied, channel_to(service.address) as direct:
        outcome = await call(proxied, method, message, **more)  # type: ignore[arg-type]
        assert outcome == await call(direct, method, message, **more)  # type: ignore[arg-type]
    return outcome


async def test_all_four_cardinalities(app: App, grpc_service: GrpcService) -> None:
    async with through(app) as channel:
        assert await channel.unary_unary("/test.Echo/Unary")(b"a") == b"a"
        assert [m async for m in channel.unary_stream("/test.Echo/ServerStream")(b"b")] == [b"b"] * 3
        assert await channel.stream_unary("/test.Echo/ClientStream")(iter([b"a", b"", b"b"])) == b"ab"
        assert [m async for m in channel.stream_stream("/test.Echo/Bidi")(iter([b"1", b"2"]))] == [b"1", b"2"]
        assert [m async for m in channel.stream_stream("/test.Echo/Bidi")(iter([]))] == []
        assert await channel.stream_unary("/test.Echo/ClientStream")(iter([])) == b""
    assert grpc_service.calls == {"Unary": 1, "ServerStream": 1, "ClientStream": 2, "Bidi": 2}


async def test_metadata_both_ways_with_binary_values(app: App, grpc_service: GrpcService) -> None:
    sent = (("x-text", "a, b"), ("x-many", "1"), ("x-many", "2"), ("x-blob-bin", BLOB), ("x-blob-bin", b""))
    outcome = await both(app, grpc_service, "Unary", b"m", metadata=(*sent, ("x-initial", "hello")))
    assert ("x-initial-bin", b"hello") in outcome.initial
    async with through(app) as proxied, channel_to(grpc_service.address) as direct:
        seen = [
            json.loads((await unary(each, "Metadata", metadata=sent)).messages[0])["metadata"]
            for each in (proxied, direct)
        ]
    assert seen[0] == seen[1]
    assert ["x-many", "2"] in seen[0]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_errors_keep_code_details_and_trailers(
    app: App, grpc_service: GrpcService, code: grpc.StatusCode
) -> None:
    details = "über 100 % — \n\t'quoted'"
    asked = (("x-code", code.name), ("x-details-bin", details.encode()), ("x-status-details", "why"))
    outcome = await both(app, grpc_service, "Fail", metadata=asked)
    assert (outcome.code, outcome.details) == (code, details)
    assert outcome.trailer("x-blob-bin") == b"\x00\xff\x01"
    assert b"why" in bytes(outcome.trailer("grpc-status-details-bin") or b"")  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_errors_after_messages_keep_everything(app: App, grpc_service: GrpcService, count: int) -> None:
    asked = (("x-code", "DATA_LOSS"), ("x-count", str(count)), ("x-status-details", "late"), ("x-initial", "i"))
    outcome = await both(app, grpc_service, "FailStream", b"m", metadata=asked)
    assert (outcome.code, outcome.messages) == (grpc.StatusCode.DATA_LOSS, (b"m",) * count)


async def test_unknown_methods_and_services_are_the_servers_word(app: App, grpc_service: GrpcService) -> None:
    for method in ("/test.Echo/Nothing", "/none.Such/Method", "/odd"):
        outcome = await both(app, grpc_service, method)
        assert outcome.code is grpc.StatusCode.UNIMPLEMENTED


async def test_gzip_both_ways(app: App, grpc_service: GrpcService) -> None:
    message = b"squeeze me " * 10_000
    async with through(app, compression=grpc.Compression.Gzip) as channel:
        outcome = await unary(channel, "Unary", message, metadata=(("x-gzip", "1"),))
        assert outcome.messages == (message,)
        several = await streamed(channel, "ServerStream", message, metadata=(("x-gzip", "1"),))
        assert several.messages == (message,) * 3


async def test_compressed_messages_pass_as_they_are() -> None:
    message = b"squeeze me " * 1_000
    async with (
        FaultServer(then=faults.grpc_answer(b"")) as server,
        running(config(server.address)) as app,
        through(app, compression=grpc.Compression.Gzip) as channel,
    ):
        assert (await unary(channel, "Unary", message)).code is grpc.StatusCode.OK
    (request,) = server.requests
    assert request.header("grpc-encoding") == "gzip"
    assert request.header("te") == "trailers"
    assert request.body[0] == 1
    assert gzip.decompress(request.body[5:]) == message


async def test_large_messages_both_ways(app: App, grpc_service: GrpcService) -> None:
    large = BLOB * (8 * 4096)
    async with through(app) as channel:
        assert (await unary(channel, "Unary", large)).messages == (large,)
        assert (await unary(channel, "Large", b"8388608")).messages == (bytes(8388608),)
        assert (await streamed(channel, "ServerStream", large, metadata=(("x-count", "2"),))).messages == (large,) * 2
        joined = await channel.stream_unary("/test.Echo/ClientStream")(iter([large, large]))
        assert joined == large + large


async def long_answer_in_parts(exchange: Exchange) -> None:
    """One message whose head comes with its first part, in many DATA frames."""
    assert isinstance(exchange, Http2Exchange)
    stream = (await exchange.request()).stream
    exchange.side.h2.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/grpc")])
    await exchange.send_data(b"\x00" + (200_000).to_bytes(4, "big") + bytes(12_000))
    for _ in range(47):
        await exchange.send_data(bytes(4_000))
    await exchange.send_trailers([(b"grpc-status", b"0")])


async def test_a_long_answer_is_no_stream() -> None:
    async with (
        FaultServer(then=long_answer_in_parts) as server,
        running(config(server.address)) as app,
        through(app) as channel,
    ):
        assert (await unary(channel, "Unary")).messages == (bytes(200_000),)
        assert cluster_of(app).streaming == set()


async def test_bidi_keeps_its_order_while_both_sides_talk(app: App) -> None:
    sent = [b"%d" % number * 50 for number in range(2_000)]
    async with through(app) as channel:
        call = bidi(channel)

        async def write() -> None:
            for message in sent:
                await call.write(message)
            await call.done_writing()

        writing = asyncio.create_task(write())
        received = [message async for message in call]
        await writing
    assert received == sent


async def test_two_hundred_calls_at_once(app: App, grpc_service: GrpcService) -> None:
    async with through(app) as channel:
        outcomes = await asyncio.gather(
            *(
                unary(channel, "Slow", b"%d" % n, metadata=(("x-ms", "50"), ("x-request-id", str(n))))
                for n in range(200)
            )
        )
    assert [outcome.messages for outcome in outcomes] == [(b"%d" % n,) for n in range(200)]
    assert set(grpc_service.runs.values()) == {1}


async def test_unary_and_streams_share_one_connection(app: App, grpc_service: GrpcService) -> None:
    async with through(app) as channel:
        calls = []
        for number in range(120):
            data = b"%d" % number * 1000
            kind = number % 3
            if kind == 0:
                calls.append(unary(channel, "Unary", data))
            elif kind == 1:
                calls.append(streamed(channel, "ServerStream", data, metadata=(("x-count", "20"),)))
            else:
                calls.append(unary(channel, "Fail", data, metadata=(("x-code", "NOT_FOUND"),)))
        outcomes = await asyncio.gather(*calls)
        downstream = [each for each in app.listeners["out"].connections if getattr(each, "protocol", "") == "http2"]
        assert len(downstream) == 1
    for number, outcome in enumerate(outcomes):
        expected: tuple[bytes, ...] = (b"%d" % number * 1000,) * (1, 20, 0)[number % 3]
        assert outcome.messages == expected


async def test_pings_of_a_client_are_answered(app: App) -> None:
    pings = (
        ("grpc.keepalive_time_ms", 20),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with through(app, *pings) as channel:
        call = bidi(channel)
        await call.write(b"1")
        assert await call.read() == b"1"
        await asyncio.sleep(0.5)
        # A server that took them for abuse would have sent GOAWAY by now.
        await call.write(b"2")
        assert await call.read() == b"2"
        await call.done_writing()
        assert (await unary(channel, "Unary", b"3")).messages == (b"3",)
        connections = [each for each in app.listeners["out"].connections if getattr(each, "protocol", "") == "http2"]
        assert len(connections) == 1
