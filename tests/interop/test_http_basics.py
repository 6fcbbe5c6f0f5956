"""Plain HTTP with unmodified clients: aiohttp, and curl in both HTTP versions."""

import asyncio
import gzip
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sidecar.app import App
from tests.interop.setups import QUICK, config, curl, needs_curl, session
from tests.support import faults
from tests.support.fault_server import FaultServer
from tests.support.http_service import HttpService, pattern
from tests.support.sidecar import running

# What curl is told for each version that it may speak.
VERSIONS = {"1.1": "--http1.1", "2": "--http2-prior-knowledge"}
in_both_versions = pytest.mark.parametrize("version", VERSIONS)
BIG = 64 << 20


@pytest.fixture
async def app(http_service: HttpService) -> AsyncIterator[App]:
    # `http1`, because aiohttp's server speaks nothing else: `auto` would be HTTP/2 for an HTTP/2 client.
    async with running(config([http_service.address], {"protocol": "http1"})) as app:
        yield app


@pytest.fixture
async def client(app: App) -> AsyncIterator[aiohttp.ClientSession]:
    async with session(app) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_methods_paths_and_fields_arrive_as_they_were_sent(
    app: App, client: aiohttp.ClientSession, method: str
) -> None:
    body = b"" if method in ("GET", "OPTIONS") else b"a body"
    path = "/echo?a=1&b=%26x&c="
    async with client.request(method, path, data=body or None, headers=[("X-One", "1"), ("X-One", "2")]) as response:
        seen = await response.json()
        assert response.status == 200
        assert "x-sidecar-error" not in response.headers
    assert (seen["method"], seen["path"], seen["body"]) == (method, path, body.decode())
    assert [value for name, value in seen["headers"] if name.lower() == "x-one"] == ["1", "2"]
    host = [value for name, value in seen["headers"] if name.lower() == "host"]
    assert host == [str(app.address("out"))]


@pytest.mark.parametrize("code", [200, 201, 204, 304, 400, 404, 418, 500, 503])
async def test_the_services_own_statuses_and_bodies_pass(
    client: aiohttp.ClientSession, http_service: HttpService, code: int
) -> None:
    async with client.post(f"/status/{code}") as response:
        assert response.status == code
        assert await response.text() == ("" if code in (204, 304) else f"http {code}")
        assert "x-sidecar-error" not in response.headers
    assert http_service.calls[f"/status/{code}"] == 1


async def test_head_tells_the_length_and_leaves_the_connection_usable(client: aiohttp.ClientSession) -> None:
    for _ in range(3):
        async with client.head("/bytes/1000") as response:
            assert (response.status, response.headers["content-length"]) == (200, "1000")
            assert await response.read() == b""
    async with client.get("/bytes/10") as response:
        assert await response.read() == pattern(10)


async def test_cookies_and_redirects_are_the_clients_business(client: aiohttp.ClientSession) -> None:
    async with client.get("/cookies") as response:
        assert [value.split(";")[0] for value in response.headers.getall("set-cookie")] == ["a=1", "b=2"]
    async with client.get("/redirect", allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (302, "/echo")
    async with client.get("/echo", headers={"cookie": "a=1; b=2"}) as response:
        assert ["Cookie", "a=1; b=2"] in [[name.title(), value] for name, value in (await response.json())["headers"]]


async def test_compressed_bodies_pass_untouched() -> None:
    packed = gzip.compress(b"text " * 1000)
    step = faults.answer(200, packed, [(b"content-encoding", b"gzip"), (b"etag", b'"1"')])
    async with FaultServer(step) as server, running(config([server.address])) as app:
        async with session(app, auto_decompress=False) as client, client.get("/") as response:
            assert await response.read() == packed
            assert (response.headers["content-encoding"], response.headers["etag"]) == ("gzip", '"1"')
        assert "gzip" in (server.requests[0].header("accept-encoding") or "")


async def test_uploads_with_and_without_a_length(client: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, 1000, 100):
            yield pattern(1000)[start : start + 100]
            await asyncio.sleep(0)

    async with client.post("/echo/raw", data=pieces()) as response:
        assert await response.read() == pattern(1000)
    async with client.post("/echo/raw", data=pattern(1000)) as response:
        assert await response.read() == pattern(1000)
    async with client.post("/echo/raw", data=b"") as response:
        assert await response.read() == b""


async def test_a_stream_of_events_arrives_one_by_one(client: aiohttp.ClientSession, http_service: HttpService) -> None:
    async with client.get("/sse?id=s&events=3") as response:
        assert response.headers["content-type"] == "text/event-stream"
        for number in range(3):
            http_service.release("s")
            # No later event was let go yet: this one was passed on by itself.
            assert await response.content.readuntil(b"\n\n") == b"id: %d\ndata: tick\n\n" % number
        assert await response.read() == b""


async def test_64_mib_go_up_and_down_whole(client: aiohttp.ClientSession) -> None:
    expected = hashlib.sha256(pattern(BIG)).hexdigest()
    async with client.get(f"/bytes/{BIG}") as response:
        assert (response.content_length, await _digest(response)) == (BIG, expected)

    async def pieces() -> AsyncIterator[bytes]:
        whole = pattern(251 * 4096)
        left = BIG
        while left:
            yield whole[:left]
            left -= min(left, len(whole))

    async with client.post("/echo/raw", data=pieces()) as response:
        assert await _digest(response) == expected


async def _digest(response: aiohttp.ClientResponse) -> str:
    digest = hashlib.sha256()
    async for chunk in response.content.iter_any():
        digest.update(chunk)
    return digest.hexdigest()


# ------------------------------------------------------------------------------ curl


@needs_curl
@in_both_versions
async def test_curl_speaks_either_version_on_one_port(app: App, version: str) -> None:
    url = f"http://{app.address('out')}"
    answer = await curl(VERSIONS[version], f"{url}/echo?x=1", "-H", "X-One: 1", "--data", "body")
    assert (answer.exit, answer.status, answer.version) == (0, 200, version)
    seen = json.loads(answer.body)
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/echo?x=1", "body")
    head = await curl(VERSIONS[version], "--head", f"{url}/bytes/1000")
    assert (head.exit, head.status, head.header("content-length")) == (0, 200, "1000")


@needs_curl
async def test_curl_keeps_its_connection(app: App) -> None:
    # HTTP/1.1 alone: curl 7.88 breaks its own HTTP/2 connection when it reuses one without TLS.
    urls = [f"http://{app.address('out')}/{path}" for path in ("bytes/300", "status/404", "bytes/200")]
    answer = await curl("--http1.1", *urls)
    assert (answer.exit, answer.body) == (0, pattern(300) + b"http 404" + pattern(200))
    assert answer.info["num_connects"] == 0


@needs_curl
@in_both_versions
async def test_curl_sends_and_fetches_64_mib(app: App, version: str) -> None:
    url = f"http://{app.address('out')}"
    with tempfile.TemporaryDirectory() as folder:
        source, copy = Path(folder) / "source", Path(folder) / "copy"
        source.write_bytes(pattern(BIG))
        answer = await curl(VERSIONS[version], "-T", str(source), "-o", str(copy), f"{url}/echo/raw")
        assert (answer.exit, answer.status) == (0, 200), answer.errors
        assert copy.read_bytes() == source.read_bytes()


@needs_curl
async def test_expect_100_continue_is_answered_by_the_service() -> None:
    async with FaultServer(faults.ok) as server, running(config([server.address])) as app:
        answer = await curl(
            *("--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "20"),
            *("--data-binary", "x" * 5000, f"http://{app.address('out')}/"),
        )
    assert (answer.exit, answer.body) == (0, b"ok")
    assert answer.heads.startswith("HTTP/1.1 100 Continue")
    assert len(server.requests[0].body) == 5000


@needs_curl
async def test_expect_100_continue_can_be_refused_before_the_body() -> None:
    async with FaultServer(faults.early_answer(413)) as server, running(config([server.address])) as app:
        answer = await curl(
            *("--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "20"),
            *("--data-binary", "x" * 5000, f"http://{app.address('out')}/"),
        )
    assert (answer.status, answer.body, "100 Continue" in answer.heads) == (413, b"too much", False)
    assert server.requests == []


@needs_curl
@in_both_versions
async def test_trailers_and_early_hints_reach_the_client(version: str) -> None:
    step = faults.informational(
        103, [(b"link", b"</a>")], faults.answer(200, b"body", trailers=[(b"x-sum", b"7"), (b"x-other", b"8")])
    )
    async with FaultServer(step) as server, running(config([server.address])) as app:
        answer = await curl(VERSIONS[version], f"http://{app.address('out')}/")
    assert (answer.exit, answer.status, answer.body) == (0, 200, b"body")
    assert " 103" in answer.heads
    assert "</a>" in answer.heads
    assert ("x-sum: 7" in answer.heads, "x-other: 8" in answer.heads) == (True, True)


@needs_curl
@in_both_versions
@pytest.mark.parametrize("upstream", ["http1", "http2"])
async def test_either_version_in_front_of_either(version: str, upstream: str) -> None:
    step = faults.answer(200, pattern(100_000), trailers=[(b"x-sum", b"7")])
    async with FaultServer(step) as server, running(config([server.address], {"protocol": upstream})) as app:
        answer = await curl(
            VERSIONS[version], "--data-binary", "x" * 100_000, "-H", "Expect:", f"http://{app.address('out')}/p?q"
        )
    assert (answer.exit, answer.version, answer.body) == (0, version, pattern(100_000))
    assert "x-sum: 7" in answer.heads
    request = server.requests[0]
    assert (request.method, request.path, len(request.body)) == ("POST", "/p?q", 100_000)
    assert (request.stream > 0) == (upstream == "http2")


@needs_curl
async def test_a_chunked_upload_by_curl(app: App) -> None:
    answer = await curl(
        *("--http1.1", "-T", "-", "-H", "Transfer-Encoding: chunked", f"http://{app.address('out')}/echo/raw"),
        stdin=pattern(200_000),
    )
    assert (answer.exit, answer.body) == (0, pattern(200_000))


async def test_a_listener_and_an_endpoint_may_be_unix_sockets(http_service: HttpService, socket_folder: Path) -> None:
    # Two sidecars in a row: the first listens on a socket that is the second's endpoint.
    socket = socket_folder / "s.sock"
    inner = config([http_service.address], listener={"bind": f"unix:{socket}"})
    async with running(inner), running(config([f"unix:{socket}"])) as outer:
        async with session(outer) as client, client.get("/bytes/70000") as response:
            assert await response.read() == pattern(70000)
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as client,
            client.get("http://web/echo") as response,
        ):
            assert (await response.json())["path"] == "/echo"
    assert not socket.exists()


@needs_curl
async def test_curl_over_a_unix_socket(http_service: HttpService, socket_folder: Path) -> None:
    socket = socket_folder / "s.sock"
    listener = {"bind": f"unix:{socket}"}
    async with running(config([http_service.address], {"protocol": "http1"}, listener)):
        for option in VERSIONS.values():
            answer = await curl(option, "--unix-socket", str(socket), "http://web/bytes/9")
            assert (answer.exit, answer.body) == (0, pattern(9))


async def test_a_missing_route_and_a_dead_endpoint_say_so(http_service: HttpService) -> None:
    routes = [{"match": {"prefix": "/web"}, "to": "web"}]
    async with (
        running(config(["127.0.0.1:1"], {"retry": dict(QUICK)}, {"routes": routes})) as app,
        session(app) as client,
    ):
        async with client.get("/other") as response:
            assert (response.status, response.headers["x-sidecar-error"]) == (404, "no_route")
        async with client.get("/web") as response:
            assert (response.status, response.headers["x-sidecar-error"]) == (502, "connect_failed")
            reply = await response.json()
    assert (reply["error"], reply["cluster"], reply["attempts"]) == ("connect_failed", "web", 3)
