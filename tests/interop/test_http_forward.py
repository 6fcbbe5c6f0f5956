"""Forward mode: the sidecar as HTTP_PROXY of curl and aiohttp, with absolute-form and CONNECT."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import h2.connection
import h2.events
import pytest
import trustme
from aiohttp import web

from sidecar.app import App
from tests.interop.setups import TIMEOUT, admin, config, curl, needs_curl
from tests.support import faults
from tests.support.fault_server import FaultServer
from tests.support.http_service import HttpService, pattern
from tests.support.sidecar import running

pytestmark = needs_curl


def forwarding(service: str, allow: list[str]) -> str:
    routes = [{"match": {"host": ["web.internal", "*.web.internal"]}, "to": "web"}]
    return config([service], listener={"mode": "forward", "allow": allow, "routes": routes})


@pytest.fixture
async def other() -> AsyncIterator[HttpService]:
    """A host that no route names."""
    async with HttpService(name="other") as service:
        yield service


@pytest.fixture
async def app(http_service: HttpService, other: HttpService) -> AsyncIterator[App]:
    async with running(forwarding(http_service.address, [f"127.0.0.1:{other.port}"])) as app:
        yield app


@pytest.fixture
def proxy(app: App) -> str:
    return f"http://{app.address('out')}"


async def test_absolute_form_goes_down_the_route_of_its_host(proxy: str, http_service: HttpService) -> None:
    answer = await curl("--proxy", proxy, "http://web.internal/echo?a=1", "--data", "body")
    seen = json.loads(answer.body)
    assert (answer.status, seen["path"], seen["body"]) == (200, "/echo?a=1", "body")
    names = {name.lower(): value for name, value in seen["headers"]}
    assert names["host"] == "web.internal"
    assert "proxy-connection" not in names
    deep = await curl("--proxy", proxy, "http://a.web.internal:8080/bytes/10")
    assert deep.body == pattern(10)
    assert http_service.calls == {"/echo": 1, "/bytes/10": 1}


async def test_connect_to_a_host_of_a_route_is_looked_into(app: App, proxy: str) -> None:
    for _ in range(2):
        answer = await curl(
            "--proxytunnel", "--proxy", proxy, "http://web.internal/status/503", "http://web.internal/echo"
        )
        assert (answer.exit, answer.status) == (0, 200)
    # What went through the tunnel was seen as requests, with their statuses.
    async with aiohttp.ClientSession() as client, client.get(f"http://{app.address('admin')}/metrics") as response:
        text = await response.text()
    assert 'sidecar_requests_total{cluster="web",code="200",protocol="http1",route="out[0]"} 2.0' in text
    assert 'sidecar_requests_total{cluster="web",code="503",protocol="http1",route="out[0]"} 2.0' in text


async def test_http2_inside_a_connect_is_looked_into() -> None:
    async with FaultServer() as server, running(forwarding(server.address, [])) as app:
        answer = await curl(
            *("--http2-prior-knowledge", "--proxytunnel", "--proxy", f"http://{app.address('out')}"),
            "http://web.internal:50051/inner",
        )
    assert (answer.exit, answer.version, answer.body) == (0, "2", b"ok")
    request = server.requests[0]
    assert (request.path, request.authority, request.stream > 0) == ("/inner", "web.internal:50051", True)


async def test_hosts_under_allow_are_reached_and_all_others_refused(
    app: App, proxy: str, other: HttpService, http_service: HttpService
) -> None:
    for options in ([], ["--proxytunnel"]):
        answer = await curl(*options, "--proxy", proxy, f"http://127.0.0.1:{other.port}/status/200")
        assert (answer.exit, answer.status, answer.body) == (0, 200, b"other 200")
    plain = await curl("--proxy", proxy, f"http://{http_service.address}/echo")
    assert (plain.status, plain.header("x-sidecar-error")) == (403, "forbidden")
    tunnel = await curl("--proxytunnel", "--proxy", proxy, f"http://{http_service.address}/echo")
    assert (tunnel.exit, tunnel.info["http_connect"]) == (56, 403)
    assert "x-sidecar-error: forbidden" in tunnel.heads
    assert http_service.calls == {}


async def test_curl_and_aiohttp_take_the_proxy_from_the_environment(
    proxy: str, http_service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await curl("http://web.internal/bytes/5", env={"http_proxy": proxy})
    assert answer.body == pattern(5)
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with (
        aiohttp.ClientSession(trust_env=True, timeout=TIMEOUT) as client,
        client.get("http://web.internal/bytes/6") as response,
    ):
        assert await response.read() == pattern(6)
    assert http_service.calls == {"/bytes/5": 1, "/bytes/6": 1}


async def test_an_endpoint_that_refuses_is_a_502_to_the_proxys_client() -> None:
    async with running(forwarding("127.0.0.1:1", ["127.0.0.1:1"])) as app:
        proxy = f"http://{app.address('out')}"
        for url in ("http://web.internal/", "http://127.0.0.1:1/"):
            answer = await curl("--proxy", proxy, url)
            assert (answer.status, answer.header("x-sidecar-error")) == (502, "connect_failed")
        tunnel = await curl("--proxytunnel", "--proxy", proxy, "http://127.0.0.1:1/")
        assert (tunnel.exit, tunnel.info["http_connect"]) == (56, 502)


class Authority:
    """A certificate authority, and an HTTPS service that it vouches for under some names."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    async def serve(self, *names: str) -> web.AppRunner:
        """An HTTPS server; `runner.addresses[0][1]` is its port."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert(*names).configure_cert(context)

        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=f"secret {request.path}")

        application = web.Application()
        application.router.add_get("/{rest:.*}", answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        return runner


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[Authority, int]]:
    authority = Authority(tmp_path)
    runner = await authority.serve("web.internal", "127.0.0.1")
    yield authority, runner.addresses[0][1]
    await runner.cleanup()


async def test_tls_through_connect_is_passed_on_unopened(secure: tuple[Authority, int]) -> None:
    authority, port = secure
    async with running(forwarding(f"127.0.0.1:{port}", [f"127.0.0.1:{port}"])) as app:
        proxy = ("--cacert", str(authority.file), "--proxy", f"http://{app.address('out')}")
        # To the matched cluster: the name is the route's, the address the endpoint's.
        matched = await curl(*proxy, "https://web.internal/a")
        assert (matched.exit, matched.status, matched.body) == (0, 200, b"secret /a")
        # To a host under `allow`.
        allowed = await curl(*proxy, f"https://127.0.0.1:{port}/b")
        assert (allowed.exit, allowed.body) == (0, b"secret /b")
        # To nobody else.
        refused = await curl(*proxy, "https://elsewhere.internal/c")
        assert (refused.exit, refused.info["http_connect"]) == (56, 403)
        # And aiohttp the same.
        context = ssl.create_default_context(cafile=str(authority.file))
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as client,
            client.get("https://web.internal/d", proxy=f"http://{app.address('out')}", ssl=context) as response,
        ):
            assert await response.text() == "secret /d"
        clusters = (await admin(app, "/api/clusters/web"))["endpoints"]
        assert clusters[0]["attempts"]["failure"] == 0


async def test_tls_to_a_matched_cluster_that_is_dead_ends_the_tunnel(secure: tuple[Authority, int]) -> None:
    authority, _ = secure
    async with running(forwarding("127.0.0.1:1", [])) as app:
        answer = await curl(
            "--cacert", str(authority.file), "--proxy", f"http://{app.address('out')}", "https://web.internal/"
        )
    assert answer.exit != 0
    assert answer.status == 0


async def test_a_connect_is_refused_outside_of_forward_mode(http_service: HttpService) -> None:
    async with running(config([http_service.address])) as app:
        answer = await curl("--proxytunnel", "--proxy", f"http://{app.address('out')}", "http://web.internal/echo")
    assert (answer.exit, answer.info["http_connect"]) == (56, 400)


async def test_a_connect_over_http2_is_a_tunnel_to_the_routes_cluster(app: App) -> None:
    peer = h2.connection.H2Connection()
    peer.initiate_connection()
    peer.send_headers(1, [(":method", "CONNECT"), (":authority", "web.internal:80")])
    peer.send_data(1, b"GET /bytes/5 HTTP/1.1\r\nhost: web.internal\r\nconnection: close\r\n\r\n")
    address = app.address("out")
    reader, writer = await asyncio.open_connection(address.host, address.port)
    got = b""
    ended = False
    while not ended:
        writer.write(peer.data_to_send())
        for event in peer.receive_data(await reader.read(65536)):
            if isinstance(event, h2.events.DataReceived):
                got += event.data
            ended = ended or isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)
    writer.close()
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(pattern(5))


async def test_a_proxied_upload_and_download_are_whole(proxy: str) -> None:
    for tunnel in ([], ["--proxytunnel"]):
        answer = await curl(
            *tunnel,
            "--proxy",
            proxy,
            "-H",
            "Expect:",
            "-T",
            "-",
            "http://web.internal/echo/raw",
            stdin=pattern(5 << 20),
        )
        assert (answer.exit, answer.body == pattern(5 << 20)) == (0, True)


async def test_a_server_that_breaks_off_inside_a_tunnel() -> None:
    async with FaultServer(then=faults.partial_body(end="reset")) as server:
        allow = [server.address]
        async with running(forwarding(server.address, allow)) as app:
            proxy = ("--proxytunnel", "--proxy", f"http://{app.address('out')}")
            for url in ("http://web.internal/", f"http://{server.address}/"):
                answer = await curl(*proxy, url)
                assert answer.exit != 0
                assert answer.body == b"part"
