"""Probes against real servers."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from aiohttp import web

from sidecar.health.grpc_probe import GrpcProbe, decode_status, encode_request
from sidecar.health.http_probe import HttpProbe
from sidecar.health.probe import Probe
from sidecar.health.tcp_probe import TcpProbe
from sidecar.model.address import Address
from tests.support.grpc_service import NOT_SERVING, SERVICE, GrpcService
from tests.support.http_service import HttpService


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def nobody() -> Address:
    """A port that nobody listens on."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return Address("127.0.0.1", port)


async def ask(probe: Probe, address: Address) -> str:
    try:
        return await asyncio.wait_for(probe.ask(address), 10)
    finally:
        await probe.close()


# ------------------------------------------------------------------------- HTTP


@pytest.mark.parametrize("status", [200, 204, 301, 399])
async def test_http_200_to_399_is_well(http_service: HttpService, status: int) -> None:
    assert await ask(HttpProbe(f"/status/{status}"), Address("127.0.0.1", http_service.port)) == ""


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_http_other_statuses_are_not(http_service: HttpService, status: int) -> None:
    assert await ask(HttpProbe(f"/status/{status}"), Address("127.0.0.1", http_service.port)) == f"status {status}"


async def test_http_redirects_are_not_followed(http_service: HttpService) -> None:
    assert await ask(HttpProbe("/redirect"), Address("127.0.0.1", http_service.port)) == ""
    assert set(http_service.calls) == {"/redirect"}


async def test_http_nobody_listens(nobody: Address) -> None:
    assert await ask(HttpProbe("/"), nobody) == "Connection refused"


async def test_http_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert await ask(HttpProbe("/"), Address("nowhere.test", 80)) == "nobody knows it"


EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
NO_ANSWERS = {
    # What comes, over and over again: what is said of it.
    "1xx for ever": (EARLY, "it does not answer in HTTP/1.1: too many 1xx responses"),
    "empty lines for ever": (b"\r\n" * 1000, "it does not answer in HTTP/1.1: no end of what is no answer"),
    "fields for ever": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000, "it does not answer in HTTP/1.1: "),
    "garbage": (b"\x00\xffno HTTP\r\n" * 100, "it does not answer in HTTP/1.1: "),
    "nothing": (b"", "it ended the connection before it answered"),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_http_what_is_no_answer(case: str) -> None:
    data, words = NO_ANSWERS[case]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            while data:
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        said = await ask(HttpProbe("/"), Address("127.0.0.1", server.sockets[0].getsockname()[1]))
    assert said.startswith(words)
    assert said.isprintable()


@pytest.mark.parametrize("answer", [EARLY * 32 + b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 204 No Content\r\n\r\nrest"])
async def test_http_odd_answers_that_are_some(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()  # until nobody listens any more
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        assert await ask(HttpProbe("/"), Address("127.0.0.1", server.sockets[0].getsockname()[1])) == ""


class Recorder:
    """An aiohttp server that remembers heads."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self.connections: set[Any] = set()
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def _answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.host, request.raw_path, request.headers["user-agent"]))
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        return web.Response(text="well")


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    await recorder.runner.setup()
    yield recorder
    await recorder.runner.cleanup()


async def test_http_host_path_and_connection(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # perhaps this very sidecar: not used
    await web.TCPSite(recorder.runner, "127.0.0.1", 0).start()
    port = recorder.runner.addresses[0][1]
    probe = HttpProbe("/health?x=%2F", host="users.internal")
    for _ in range(2):
        assert await probe.ask(Address("127.0.0.1", port)) == ""
    await probe.close()
    assert await ask(HttpProbe("/"), Address("127.0.0.1", port)) == ""

    agent = "sidecar-health-check"
    assert recorder.seen[0] == ("users.internal", "/health?x=%2F", agent)
    assert recorder.seen[2] == (f"127.0.0.1:{port}", "/", agent)
    assert len(recorder.connections) == 3  # a new one each time


async def test_http_over_a_unix_socket(recorder: Recorder, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    await web.UnixSite(recorder.runner, path).start()
    assert await ask(HttpProbe("/"), Address("", 0, path)) == ""
    assert recorder.seen[0][0] == "localhost"


async def test_https_verifies(recorder: Recorder, authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("users.internal").configure_cert(context)
    await web.TCPSite(recorder.runner, "127.0.0.1", 0, ssl_context=context).start()
    address = Address("127.0.0.1", recorder.runner.addresses[0][1])

    assert await ask(HttpProbe("/", tls=lambda: trusting, server_name="users.internal"), address) == ""
    said = await ask(HttpProbe("/", tls=lambda: trusting), address)
    assert said.startswith("its certificate is for another name: ")
    assert len(recorder.seen) == 1


# ------------------------------------------------------------------------- gRPC


async def test_grpc(grpc_service: GrpcService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    address = Address("127.0.0.1", grpc_service.port)
    assert await ask(GrpcProbe(), address) == ""
    assert await ask(GrpcProbe(SERVICE), address) == ""
    grpc_service.health[SERVICE] = NOT_SERVING
    assert await ask(GrpcProbe(SERVICE), address) == "NOT_SERVING"
    assert (await ask(GrpcProbe("test.Unknown"), address)).startswith("NOT_FOUND")


async def test_grpc_without_a_message() -> None:
    server = grpc.aio.server()

    async def check(request: bytes, call: Any) -> AsyncIterator[bytes]:
        for each in list[bytes]():
            yield each

    methods = {"Check": grpc.unary_stream_rpc_method_handler(check)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await ask(GrpcProbe(), Address("127.0.0.1", port)) == "the answer holds no message"
    finally:
        await server.stop(None)


async def test_grpc_nobody_listens(nobody: Address) -> None:
    assert (await ask(GrpcProbe(), nobody)).startswith("UNAVAILABLE")


async def test_grpc_sees_an_endpoint_come_back_at_once(nobody: Address) -> None:
    probe = GrpcProbe()
    for _ in range(3):
        assert await ask(probe, nobody)
    async with GrpcService(port=nobody.port):
        assert await ask(probe, nobody) == ""


async def test_grpc_with_tls(authority: trustme.CA) -> None:
    certificate = authority.issue_cert("users.internal")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    server = grpc.aio.server()

    async def check(request: bytes, call: Any) -> bytes:
        return b"\x08\x01"

    methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    await server.start()
    address = Address("127.0.0.1", port)
    tls = (authority.cert_pem.bytes(), None, None)
    try:
        assert await ask(GrpcProbe(tls=lambda: tls, server_name="users.internal"), address) == ""
        assert (await ask(GrpcProbe(tls=lambda: tls), address)).startswith("UNAVAILABLE")
    finally:
        await server.stop(None)


def test_grpc_messages() -> None:
    assert encode_request("") == b""
    assert encode_request("a") == b"\x0a\x01a"
    assert encode_request("é" * 100) == b"\x0a\xc8\x01" + "é".encode() * 100
    assert decode_status(b"") == 0
    assert decode_status(b"\x08\x01") == 1
    # Unknown fields of every wire type, then the status.
    assert decode_status(b"\x10\x96\x01\x1a\x02ab\x21" + bytes(8) + b"\x2d" + bytes(4) + b"\x08\x02") == 2


@pytest.mark.parametrize("message", [b"\x08", b"\x08\x80", b"\x0a\x05ab", b"\x0b", b"\x21\x00", b"\x08" + b"\xff" * 11])
def test_grpc_messages_that_are_none(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|wire type|too long"):
        decode_status(message)


# -------------------------------------------------------------------------- TCP


async def test_tcp(http_service: HttpService) -> None:
    assert await ask(TcpProbe(), Address("127.0.0.1", http_service.port)) == ""


async def test_tcp_nobody_listens(nobody: Address) -> None:
    with pytest.raises(ConnectionRefusedError):
        await ask(TcpProbe(), nobody)


async def test_tcp_over_a_unix_socket(tmp_path: Path) -> None:
    accepted = asyncio.Event()
    path = str(tmp_path / "s")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        assert await ask(TcpProbe(), Address("", 0, path)) == ""
        await asyncio.wait_for(accepted.wait(), 5)
    finally:
        server.close()
        await server.wait_closed()
    with pytest.raises(OSError, match=r"refused|No such file"):
        await ask(TcpProbe(), Address("", 0, path))
