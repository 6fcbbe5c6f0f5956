"""The admin server against pages of other sites, strangers on the network, and clients
that only hold on to it."""

import asyncio
import json
import os
import select
import socket
import stat
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner

from sidecar import cli
from sidecar.admin import access, stream
from sidecar.admin.client import AdminApi, AdminError
from sidecar.admin.guard import MOST_CONNECTIONS, Guard
from sidecar.admin.server import AdminServer, application, start
from sidecar.admin.token import TokenError, presents, read_token
from sidecar.app import App
from sidecar.config.errors import ConfigErrors
from sidecar.config.load import load_text
from sidecar.model.address import Address
from sidecar.wire.listener import BindError
from tests.admin.conftest import FakeSidecar
from tests.config.loading import lines_of, load
from tests.support.clock import FakeClock
from tests.support.sidecar import running
from tests.telemetry.parts import Parts, route_to

TOKEN = "S3cret-token.of_the~admin/API+1=="


def spec_of(admin: str = "bind: 127.0.0.1:0") -> Any:
    return load_text(f"admin: {{{admin}}}\nclusters: {{u: {{endpoints: ['127.0.0.1:1']}}}}", "f", {})


@pytest.fixture
def sidecar(clock: FakeClock) -> FakeSidecar:
    parts = Parts(clock)
    parts.go_live(route_to(parts.cluster("users", "10.0.0.1:80")))
    return FakeSidecar(parts.runtime)


@pytest.fixture
async def server(sidecar: FakeSidecar) -> AsyncIterator[AdminServer]:
    server = await start(sidecar, Address("127.0.0.1", 0))
    yield server
    sidecar.events.close()
    await server.stop()


async def ask(server: AdminServer, *lines: str, method: str = "GET", path: str = "/api/config") -> tuple[int, str]:
    """Status and whole answer to a request of exactly these header lines."""
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "connection: close", "", ""]).encode())
    answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split()[1]), answer


def paths_of(sidecar: FakeSidecar) -> list[tuple[str, str]]:
    """Every (method, path) that is registered; HEAD is GET's."""
    found = []
    for resource in application(sidecar).router.resources():
        path = resource.canonical.replace("{name}", "users").replace("{address}", "10.0.0.1:80")
        found += [(route.method, path) for route in resource if route.method != "HEAD"]
    return found


# ------------------------------------------------------------------------ Host


OURS = ["localhost", "LOCALHOST:15000", "localhost.", "127.0.0.1", "127.0.0.1:1", "127.5.5.5", "[::1]", "[::1]:15000"]
FOREIGN = [
    "evil.example",
    "evil.example:15000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil-localhost",
    "10.0.0.1",
    "[fd00::1]",
    "169.254.169.254",
    "",
    "localhost@evil.example",
    "evil.example/localhost",
    "0x7f.1",
    "2130706433",
    "0.0.0.0",
]


@pytest.mark.parametrize("host", OURS)
async def test_the_names_of_this_machine_are_answered(server: AdminServer, host: str) -> None:
    assert (await ask(server, f"host: {host}"))[0] == 200


@pytest.mark.parametrize("host", FOREIGN)
async def test_a_name_that_was_made_to_mean_this_machine_is_not_answered(
    server: AdminServer, sidecar: FakeSidecar, host: str
) -> None:
    for method, path in (("GET", "/api/config"), ("GET", "/metrics"), ("GET", "/healthz"), ("POST", "/api/drain")):
        status, answer = await ask(server, f"host: {host}", method=method, path=path)
        assert status in (400, 403), answer
        assert status == 400 or "foreign_host" in answer
    assert sidecar.calls == []


async def test_an_absolute_target_is_whom_it_names(server: AdminServer, sidecar: FakeSidecar) -> None:
    """RFC 9112 3.2.2: it wins over Host."""
    for path, status in (
        ("http://evil.example/api/config", 403),
        ("http://localhost@evil.example/api/config", 403),
        ("http://localhost:15000/api/config", 200),
    ):
        assert (await ask(server, "host: localhost", path=path))[0] == status, path
    assert (await ask(server, "host: evil.example", path="http://localhost/api/config"))[0] == 200
    assert (await ask(server, "host: localhost", method="POST", path="http://evil.example/api/drain"))[0] == 403
    assert sidecar.calls == []


async def test_a_request_has_one_host(server: AdminServer) -> None:
    assert (await ask(server, "x: y"))[0] == 400
    assert (await ask(server, "host: localhost", "host: localhost"))[0] == 400


async def test_further_hosts_are_answered_when_they_are_listed(server: AdminServer, sidecar: FakeSidecar) -> None:
    sidecar.spec = spec_of('bind: 127.0.0.1:0, allowed_hosts: ["admin.internal", "*.ops.internal", "[fd00::1]"]')
    for host in ("admin.internal:15000", "ADMIN.internal", "a.ops.internal", "[fd00::1]:1"):
        assert (await ask(server, f"host: {host}"))[0] == 200, host
    for host in ("ops.internal", "evil.example", "xops.internal"):
        assert (await ask(server, f"host: {host}"))[0] == 403, host


async def test_the_address_that_was_connected_to_is_answered(sidecar: FakeSidecar) -> None:
    # As the kubelet asks: by the pod's address, of a server that is bound to all.
    server = await start(sidecar, Address("0.0.0.0", 0))
    try:
        port = server.address.port
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.2:{port}/healthz") as response:
            assert response.status == 200
    finally:
        await server.stop()


# ---------------------------------------------------------------------- origins


@pytest.mark.parametrize(
    "line",
    [
        "origin: https://evil.example",
        "origin: null",
        "origin: http://localhost:3000",
        "origin: http://localhost",
        "origin: file://",
        "origin: ftp://localhost:15000",
        "sec-fetch-site: cross-site",
        "sec-fetch-site: same-site",
        "sec-fetch-site: CROSS-SITE",
        "sec-fetch-site: anything",
    ],
)
async def test_a_page_of_another_site_changes_and_watches_nothing(
    server: AdminServer, sidecar: FakeSidecar, line: str
) -> None:
    for method, path in paths_of(sidecar):
        if method == "POST" or path == "/api/events":
            status, answer = await ask(server, "host: localhost:15000", line, method=method, path=path)
            assert (status, "foreign_origin" in answer) == (403, True), (method, path)
    assert sidecar.calls == []


@pytest.mark.parametrize(
    "lines",
    [
        ["origin: http://localhost:15000", "sec-fetch-site: same-origin"],
        ["sec-fetch-site: none"],
        [],
    ],
)
async def test_our_own_page_and_programs_may(server: AdminServer, sidecar: FakeSidecar, lines: list[str]) -> None:
    status, _ = await ask(server, "host: localhost:15000", *lines, method="POST", path="/api/drain")
    assert (status, sidecar.calls) == (200, ["drain"])


# ---------------------------------------------------------------------- methods


async def test_nothing_that_changes_state_answers_to_another_method(server: AdminServer, sidecar: FakeSidecar) -> None:
    table = paths_of(sidecar)
    changes = {path for method, path in table if method == "POST"}
    reads = {path for method, path in table if method == "GET"}
    assert len(changes) >= 4
    assert not changes & reads
    assert {method for method, _ in table} == {"GET", "POST"}
    for path in changes | reads:
        others = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"}
        others -= {"POST"} if path in changes else {"GET", "HEAD"}
        for method in others - ({"HEAD"} if path == "/api/events" else set()):
            status, answer = await ask(server, "host: localhost", method=method, path=path)
            assert status == 405, (method, path, answer)
            assert ("allow: POST" if path in changes else "allow: GET") in answer.replace("Allow", "allow")
    assert sidecar.calls == []
    assert not sidecar.runtime.draining


# ------------------------------------------------------------------------ token


@pytest.fixture
def token_file(tmp_path: Path, sidecar: FakeSidecar) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    sidecar.spec = spec_of(f"bind: 127.0.0.1:0, token_file: '{path}'")
    return path


async def test_with_a_token_everything_but_the_probes_wants_it(
    server: AdminServer, sidecar: FakeSidecar, token_file: Path
) -> None:
    assert token_file.exists()
    for method, path in [*paths_of(sidecar), ("GET", "/nothing"), ("DELETE", "/api/config")]:
        if path in ("/healthz", "/readyz"):
            assert (await ask(server, "host: localhost", method=method, path=path))[0] == 200
            continue
        status, answer = await ask(server, "host: localhost", method=method, path=path)
        assert (status, "WWW-Authenticate: Bearer" in answer) == (401, True), path
        assert TOKEN not in answer
    assert sidecar.calls == []
    right = f"authorization: Bearer {TOKEN}"
    assert (await ask(server, "host: localhost", right, method="POST", path="/api/drain"))[0] == 200
    assert (await ask(server, "host: localhost", right))[0] == 200
    assert sidecar.calls == ["drain"]


@pytest.mark.parametrize("path", ["/healthz/", "//healthz", "/healthz/../api/config", "/./api/config", "/HEALTHZ"])
async def test_no_spelling_of_a_path_gets_around_the_token(server: AdminServer, token_file: Path, path: str) -> None:
    assert token_file.exists()
    assert (await ask(server, "host: localhost", path=path))[0] == 401


async def test_the_probes_are_open_to_reading_alone(server: AdminServer, token_file: Path) -> None:
    assert token_file.exists()
    assert (await ask(server, "host: localhost", method="HEAD", path="/healthz"))[0] == 200
    assert (await ask(server, "host: localhost", method="POST", path="/healthz"))[0] == 401


@pytest.mark.parametrize(
    "lines",
    [
        ["authorization: Bearer "],
        ["authorization: Bearer"],
        [f"authorization: {TOKEN}"],
        [f"authorization: Basic {TOKEN}"],
        [f"authorization: Bearer {TOKEN}x"],
        [f"authorization: Bearer {TOKEN[:-1]}"],
        [f"authorization: Bearer {TOKEN.lower()}"],
        [f"authorization: Bearer x{TOKEN}"],
        [f"authorization: Bearer {TOKEN}, Bearer {TOKEN}"],
        [f"authorization: Bearer {TOKEN}", f"authorization: Bearer {TOKEN}"],
        [f"x-authorization: Bearer {TOKEN}"],
        [f"cookie: token={TOKEN}"],
        ["authorization: Bearer \xff\xfe"],
    ],
)
async def test_what_is_not_the_token(server: AdminServer, token_file: Path, lines: list[str]) -> None:
    assert token_file.exists()
    status, answer = await ask(server, "host: localhost", *lines)
    assert status in (400, 401), answer
    assert (await ask(server, "host: localhost", path=f"/api/config?access_token={TOKEN}"))[0] == 401


async def test_a_rotated_token_counts_at_once_and_a_lost_one_lets_nobody_in(
    server: AdminServer, token_file: Path
) -> None:
    other = TOKEN.swapcase()
    assert (await ask(server, "host: localhost", f"authorization: bearer  {TOKEN}"))[0] == 200
    token_file.write_text(other)  # the same size
    assert (await ask(server, "host: localhost", f"authorization: Bearer {TOKEN}"))[0] == 401
    assert (await ask(server, "host: localhost", f"authorization: Bearer {other}"))[0] == 200
    token_file.unlink()
    for token in (TOKEN, other, ""):
        status, answer = await ask(server, "host: localhost", f"authorization: Bearer {token}")
        assert (status, "no_token" in answer) == (503, True)
    assert (await ask(server, "host: localhost", path="/healthz"))[0] == 200


async def test_metrics_may_be_open(server: AdminServer, sidecar: FakeSidecar, token_file: Path) -> None:
    sidecar.spec = spec_of(f"bind: 127.0.0.1:0, token_file: '{token_file}', open_metrics: true")
    assert (await ask(server, "host: localhost", path="/metrics"))[0] == 200
    assert (await ask(server, "host: localhost"))[0] == 401


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"", 0o600, "holds no token"),
        (b"short", 0o600, "holds no token"),
        (b"x" * 15, 0o600, "holds no token"),
        (b"two words of a token file", 0o600, "holds no token"),
        (b"one-line-of-a-token\nand another", 0o600, "holds no token"),
        (b"\xff" * 32, 0o600, "holds no token"),
        (b"x" * 5000, 0o600, "holds no token"),
        (TOKEN.encode(), 0o602, "written by everybody"),
        (TOKEN.encode(), 0o666, "written by everybody"),
    ],
)
def test_what_is_no_token_file(tmp_path: Path, content: bytes, mode: int, words: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(TokenError, match=words) as caught:
        read_token(str(path))
    assert content.decode("latin-1") not in str(caught.value) or not content


def test_what_is_no_file_at_all(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("missing", "No such file"), ("pipe", "no regular file"), ("", "regular file"), ("\0", "null")):
        with pytest.raises(TokenError, match=words):
            read_token(str(tmp_path / name))


def test_the_token_is_compared_as_a_whole() -> None:
    assert presents([f"Bearer {TOKEN}"], TOKEN.encode())
    assert not presents([], TOKEN.encode())
    assert not presents(["Bearer \udcff"], TOKEN.encode())


# ------------------------------------------------------------------- the config


@pytest.mark.parametrize("bind", ["0.0.0.0:15000", "10.0.0.1:15000", "[::]:15000", "[fd00::1]:1", "host.internal:1"])
def test_an_address_that_others_reach_is_refused_without_a_token(bind: str) -> None:
    text = f"admin:\n  bind: '{bind}'\nclusters: {{u: {{endpoints: ['a:1']}}}}\n"
    (line,) = lines_of(text)
    assert line.startswith(f"f.yaml:2:9: admin.bind: {bind} can be reached from other machines")
    assert "token_file" in line
    assert load(text.replace("clusters", "  token_file: /run/token\nclusters", 1)).admin.token_file == "/run/token"


@pytest.mark.parametrize(
    "bind", ["127.0.0.1:15000", "127.9.9.9:1", "[::1]:15000", "localhost:15000", "unix:/run/admin.sock"]
)
def test_what_only_this_machine_reaches_needs_none(bind: str) -> None:
    text = f"admin: {{bind: '{bind}'}}\nclusters: {{u: {{endpoints: ['a:1']}}}}\n"
    assert load(text).admin.token_file is None


# ---------------------------------------------------------------------- answers

NO_REQUESTS = {
    "nonsense": (b"nonsense\r\n\r\n", 400),
    "a name without a colon": (b"GET / HTTP/1.1\r\nhost: localhost\r\nLast1\r\n\r\n", 400),
    "a value that is no text": (b"GET / HTTP/1.1\r\nhost: localhost\r\nexpect: 100-contin\x80e\r\n\r\n", 400),
    "no version": (b"POST /api/drain\r\n\r\n", 505),
    "another version": (b"POST /api/drain HTTP/2.0\r\nhost: localhost\r\n\r\n", 505),
    "an origin that is none": (
        b"POST /api/drain HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\norigin: http://[\r\n\r\n",
        403,
    ),
    "a body that cannot be read": (
        b"GET /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n"
        b"connection: close\r\n\r\nzzzz",
        404,
    ),
    "a chunk that is none": (
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        400,
    ),
}


@pytest.mark.parametrize("name", NO_REQUESTS)
async def test_what_is_no_request_is_refused_like_the_rest_and_not_logged(
    server: AdminServer, sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    data, status = NO_REQUESTS[name]
    # Given somebody who says what cannot be understood
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    writer.write(data)
    # When it is answered
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    # Then in the form of every refusal, with what no browser may do, and nothing of what reads here
    assert int(head.split()[1]) == status
    assert json.loads(body)["message"]
    for field in access.HEADERS:
        assert field in head.decode().lower()
    assert b"aiohttp" not in head
    assert b"Python" not in head
    assert not caplog.records
    assert sidecar.calls == []


async def test_every_answer_is_to_be_neither_framed_sniffed_kept_nor_read_by_others(
    server: AdminServer, sidecar: FakeSidecar
) -> None:
    asked = [("GET", "/", "localhost"), ("GET", "/healthz", "localhost"), ("GET", "/metrics", "localhost")]
    asked += [("GET", "/api/config", "evil.example"), ("GET", "/nothing", "localhost"), ("PUT", "/", "localhost")]
    for method, path, host in asked:
        _, answer = await ask(server, f"host: {host}", method=method, path=path)
        head = answer.partition("\r\n\r\n")[0].lower()
        for name in access.HEADERS:
            assert f"\r\n{name}: " in head, (path, name)
        assert "\r\nserver:" not in head
        assert "default-src 'none'" in head
        assert "unsafe" not in head
    _, page = await ask(server, "host: localhost", path="/")
    assert "style-src 'sha256-" in page
    sidecar.events.close()
    _, events = await ask(server, "host: localhost", path="/api/events")
    assert "x-content-type-options: nosniff" in events.lower()


# ----------------------------------------------------------------------- bounds


@pytest.mark.parametrize("lines", [["content-length: 100000000"], ["transfer-encoding: chunked"]])
async def test_a_body_is_refused_before_it_is_read(server: AdminServer, sidecar: FakeSidecar, lines: list[str]) -> None:
    status, answer = await ask(server, "host: localhost", *lines, method="POST", path="/api/drain")
    assert (status, "too_large" in answer) == (413, True)
    assert sidecar.calls == []


async def test_a_head_is_bounded(server: AdminServer) -> None:
    status, _ = await ask(server, "host: localhost", f"x: {'y' * 20_000}")
    assert status == 400
    status, _ = await ask(server, "host: localhost", *(f"x{number}: y" for number in range(1000)))
    assert status == 400


async def test_the_followers_of_events_are_bounded(server: AdminServer, sidecar: FakeSidecar) -> None:
    url = f"http://{server.address}/api/events"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        following = [await session.get(url) for _ in range(stream.MOST_SUBSCRIBERS)]
        assert {response.status for response in following} == {200}
        async with session.get(url) as one_more:
            assert (one_more.status, (await one_more.json())["error"]) == (503, "too_many")
        following.pop().close()
        async with asyncio.timeout(10):
            while True:
                sidecar.events.publish("drain", {})  # the close is noticed by a write, at the latest
                async with session.get(url) as again:
                    if again.status == 200:
                        break
        for response in following:
            response.close()


class Guarded:
    """An aiohttp server behind a Guard with short times."""

    def __init__(self, **bounds: Any) -> None:
        self.asked = asyncio.Semaphore(0)
        self.hold = asyncio.Event()
        self._bounds = bounds
        self.port = 0

    async def __aenter__(self) -> "Guarded":
        @web.middleware
        async def busy(request: web.Request, handler: Any) -> Any:
            with self._guard.busy(request.protocol):
                return await handler(request)

        app = web.Application(middlewares=[busy])
        app.router.add_get("/", self._answer)
        app.router.add_get("/held", self._held)
        app.router.add_get("/large", self._large)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        server: Any = self._runner.server
        self._guard = Guard(server, **self._bounds)
        self._server = await asyncio.get_running_loop().create_server(self._guard, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hold.set()
        self._server.close()
        await self._runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _held(self, _: web.Request) -> web.Response:
        self.asked.release()
        await self.hold.wait()
        return web.Response(text="held")

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(64 << 20))

    async def connect(self, path: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        if path:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        return reader, writer


async def test_a_client_that_never_asks_is_cut_off() -> None:
    async with Guarded(head_seconds=0.05) as server:
        for said in (b"", b"GET / HTTP/1.1\r\nhost: loc"):
            reader, writer = await server.connect()
            writer.write(said)
            assert await _ended(reader)
            writer.close()


async def test_a_client_that_has_asked_is_not() -> None:
    async with Guarded(head_seconds=0.05) as server:
        reader, writer = await server.connect("/")
        assert b"200 OK" in await reader.readuntil(b"ok")
        await asyncio.sleep(0.2)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"ok")
        writer.close()


async def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    async with Guarded(read_seconds=0.1) as server:
        raw = socket.create_connection(("127.0.0.1", server.port))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
        # Asked for nothing, poll tells of errors and hang-ups alone: the reset.
        poll = select.poll()
        poll.register(raw, 0)
        assert await asyncio.to_thread(poll.poll, 20_000)
        raw.close()


async def test_a_new_client_takes_the_place_of_the_oldest_that_asks_for_nothing() -> None:
    async with Guarded(most=3) as server:
        held = [await server.connect("/held") for _ in range(2)]
        for _ in held:
            await server.asked.acquire()
        idle, idle_writer = await server.connect("/")
        await idle.readuntil(b"ok")
        new, new_writer = await server.connect("/")
        assert b"200 OK" in await new.readuntil(b"ok")
        assert await _ended(idle)
        # When all are at work, the new one goes.
        held.append(await server.connect("/held"))
        await server.asked.acquire()
        late, late_writer = await server.connect("/")
        assert await _ended(late)
        server.hold.set()
        for reader, writer in held:
            assert b"held" in await reader.readuntil(b"held")
            writer.close()
        for each in (idle_writer, new_writer, late_writer):
            each.close()


async def test_the_probes_are_answered_while_hundreds_hold_on(server: AdminServer) -> None:
    holding = []
    for number in range(2 * MOST_CONNECTIONS):
        held = socket.create_connection((server.address.host, server.address.port))
        held.sendall(b"GET /healthz HTTP/1.1\r\nhost: localh"[: number % 40])
        holding.append(held)
        if number % 32 == 0:
            assert (await ask(server, "host: localhost", path="/healthz"))[0] == 200
    assert (await ask(server, "host: localhost", path="/healthz"))[0] == 200
    for held in holding:
        held.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


# ----------------------------------------------------------------- unix sockets


@pytest.mark.parametrize("mode", ["0600", "0660"])
async def test_a_unix_socket_has_its_mode_whatever_the_umask(
    sidecar: FakeSidecar, socket_folder: Path, mode: str
) -> None:
    path = socket_folder / "admin.sock"
    sidecar.spec = spec_of(f"bind: 'unix:{path}', socket_mode: {mode}")
    before = os.umask(0o077)
    try:
        server = await start(sidecar, Address("", 0, str(path)))
    finally:
        os.umask(before)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
            session.get("http://any.name/healthz") as response,
        ):
            assert response.status == 200
    finally:
        await server.stop()
    assert not path.exists()


# ---------------------------------------------------------------- the whole thing


def whole(admin: str) -> str:
    return f"service: checkout\nadmin: {{{admin}}}\nclusters: {{users: {{endpoints: ['127.0.0.1:1']}}}}\n"


async def test_the_command_line_asks_a_unix_socket_with_a_token(tmp_path: Path, socket_folder: Path) -> None:
    token, path = tmp_path / "token", socket_folder / "admin.sock"
    token.write_text(TOKEN)
    token.chmod(0o600)
    async with running(whole(f"bind: 'unix:{path}', token_file: '{token}'")) as app:

        async def command(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
            done = await asyncio.to_thread(CliRunner().invoke, cli.main, [*arguments], env=env)
            return done.exit_code, done.stdout, done.stderr

        admin = ("--admin", f"unix:{path}")
        code, out, _ = await command("status", *admin, "--token-file", str(token))
        assert (code, "users" in out) == (0, True)
        code, _, err = await command("status", *admin)
        assert (code, err) == (1, f"sidecar: unix:{path}/api/clusters answered 401 Unauthorized: see --token-file\n")
        code, _, err = await command("status", *admin, "--token-file", str(tmp_path / "missing"))
        assert (code, "cannot be read" in err) == (1, True)
        named = {"SIDECAR_ADMIN": f"unix:{path}", "SIDECAR_ADMIN_TOKEN_FILE": str(token)}
        code, out, _ = await command("drain", env=named)
        assert (code, out.splitlines()[-1]) == (0, f"unix:{path} drains")
        assert app.runtime.draining


def test_the_command_line_takes_the_token_nowhere_else(tmp_path: Path) -> None:
    seen: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers['authorization']}")
            self.send_response(302)
            self.send_header("location", f"http://localhost:{redirecting.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    redirecting = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=redirecting.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        api = AdminApi(f"http://root:hunter2@127.0.0.1:{redirecting.server_port}", TOKEN)
        with pytest.raises(AdminError, match="answered 302") as caught:
            api.call("GET", "/api/clusters")
    finally:
        redirecting.shutdown()
        redirecting.server_close()
        thread.join()
    assert "hunter2" not in str(caught.value) + api.base
    assert seen == [f"/api/clusters Bearer {TOKEN}"]


async def test_a_token_file_that_cannot_be_used_stops_the_start_and_a_reload(tmp_path: Path) -> None:
    path, token = tmp_path / "sidecar.yaml", tmp_path / "token"
    path.write_text(whole(f"bind: 127.0.0.1:0, token_file: '{token}'"))
    with pytest.raises(ConfigErrors, match=r"admin.token_file: .*token cannot be read"):
        await App(path).start()
    token.write_text(TOKEN)
    app = App(path)
    await app.start()
    try:
        path.write_text(whole(f"bind: 127.0.0.1:0, token_file: '{token}.other'"))
        (error,) = await app.reload()
        assert "admin.token_file" in error
        assert app.spec.admin.token_file == str(token)
    finally:
        await app.stop()


async def test_two_sidecars_do_not_share_an_admin_socket(socket_folder: Path) -> None:
    text = whole(f"bind: 'unix:{socket_folder / 'admin.sock'}'")
    async with running(text) as app:
        with pytest.raises(BindError, match="another process listens there"):
            async with running(text):
                pass
        api = AdminApi(str(app.address("admin")))
        assert b'"ok"' in await asyncio.to_thread(api.call, "GET", "/healthz")
