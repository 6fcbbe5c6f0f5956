"""Any version of the client to any version of the upstream, trailers kept both ways."""

import asyncio
import subprocess

import grpc

from sidecar.app import App
from tests.interop.grpc_calls import config, quiet, streamed, through, unary
from tests.support import faults
from tests.support.fault_server import Exchange, FaultServer
from tests.support.grpc_service import GrpcService
from tests.support.sidecar import running

MESSAGE = b"\x00\x00\x00\x00\x02hi"


async def talk(app: App, request: bytes) -> bytes:
    """Bytes to the listener and all that comes back; the request asks to close."""
    address = app.address("out")
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_grpc_client_to_an_http1_upstream() -> None:
    trailers = [(b"x-blob-bin", b"AP8B"), (b"x-text", b"t")]
    async with (
        FaultServer(then=faults.grpc_answer(b"hi", trailers=trailers)) as server,
        running(config(server.address, protocol="http1")) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary", b"m" * 100_000, metadata=(("x-one", "1"),))
        assert (outcome.messages, outcome.trailing) == ((b"hi",), (("x-blob-bin", b"\x00\xff\x01"), ("x-text", "t")))
        (request,) = server.requests
        assert (request.stream, request.path, request.header("x-one")) == (0, "/test.Echo/Unary", "1")
        assert len(request.body) == 100_005
        assert request.header("te") == "trailers"
        failing = await unary(channel, "Unary")
        assert failing.code is grpc.StatusCode.OK
        await quiet(app)


async def test_a_grpc_error_of_an_http1_upstream() -> None:
    step = faults.answer(
        200, b"", [(b"content-type", b"application/grpc")], [(b"grpc-status", b"5"), (b"grpc-message", b"gone%21")]
    )
    async with (
        FaultServer(step, faults.answer(503, b""), then=faults.answer(404, b"")) as server,
        running(config(server.address, protocol="http1")) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary")
        assert (outcome.code, outcome.details) == (grpc.StatusCode.NOT_FOUND, "gone!")
        # grpc/doc/http-grpc-status-mapping.md
        assert (await unary(channel, "Unary")).code is grpc.StatusCode.UNAVAILABLE
        assert (await streamed(channel, "ServerStream")).code is grpc.StatusCode.UNIMPLEMENTED
        await quiet(app)


async def test_an_http1_client_to_a_grpc_service(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address, protocol="http2")) as app:
        answer = await talk(
            app,
            b"POST /test.Echo/Unary HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\nte: trailers\r\n"
            b"connection: close, te\r\ncontent-length: 7\r\n\r\n" + MESSAGE,
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"transfer-encoding: chunked" in head.lower()
        assert MESSAGE in body
        assert b"0\r\ngrpc-status: 0\r\n" in body.lower()
        assert grpc_service.calls["Unary"] == 1
        await quiet(app)


async def test_request_trailers_cross_in_both_directions() -> None:
    async def answer_with_trailers(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send_head(200)
        await exchange.send_data(b"body")
        await exchange.send_trailers([(b"x-checksum", b"down")])

    chunked = (
        b"POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum\r\nte: trailers\r\n"
        b"connection: close, te\r\n\r\n3\r\nabc\r\n0\r\nx-checksum: up\r\n\r\n"
    )
    for protocol, over_h2 in (("http2", True), ("http1", False)):
        async with (
            FaultServer(then=answer_with_trailers) as server,
            running(config(server.address, protocol=protocol)) as app,
        ):
            answer = await talk(app, chunked)
            assert answer.endswith(b"0\r\nx-checksum: down\r\n\r\n")
            (request,) = server.requests
            assert (request.body, request.trailers, request.stream > 0) == (b"abc", [(b"x-checksum", b"up")], over_h2)
            await quiet(app)


async def test_curl_speaks_http2_to_either_upstream() -> None:
    for protocol in ("http1", "http2"):
        step = faults.answer(200, b"body", [(b"x-a", b"1")], [(b"x-late", b"2")])
        async with FaultServer(then=step) as server, running(config(server.address, protocol=protocol)) as app:
            url = f"http://{app.address('out')}/path?q=1"
            arguments = ["curl", "-sS", "-i", "--max-time", "10", "--http2-prior-knowledge", "-d", "sent", url]
            done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, check=True)
            told = done.stdout.replace(b"\r\n", b"\n")
            assert told.startswith(b"HTTP/2 200")
            assert b"x-a: 1\n" in told
            assert b"\n\nbody" in told
            assert b"x-late: 2" in told
            (request,) = server.requests
            assert (request.path, request.body, request.stream > 0) == ("/path?q=1", b"sent", protocol == "http2")
            await quiet(app)
