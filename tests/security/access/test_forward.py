"""Forward mode, on sockets: what a client asks for by name or number is judged by the
address that it leads to, and that very address is connected to."""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import h2.connection
import h2.events
import pytest
import uvloop

from sidecar.app import App
from sidecar.model.address import Address
from sidecar.model.outcome import Failure
from sidecar.policy.destinations import Destinations
from sidecar.proxy.runtime import Runtime
from sidecar.wire.connector import Connector
from sidecar.wire.timers import Timers
from sidecar.wire.turn import Turn
from tests.interop.setups import admin, config
from tests.support.sidecar import running


class Internal:
    """A service that nobody may reach, on one port of every address of this machine."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> "Internal":
        four = await asyncio.start_server(self._serve, "0.0.0.0", 0)
        self.port = four.sockets[0].getsockname()[1]
        six = await asyncio.start_server(self._serve, "::1", self.port)
        self._servers = [four, six]
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if await reader.read(1):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret")
        writer.close()


@pytest.fixture
async def internal() -> AsyncIterator[Internal]:
    async with Internal() as service:
        yield service


def forwarding(*allow: str) -> str:
    """A forward listener whose one route goes nowhere."""
    routes = [{"match": {"host": "web.internal"}, "to": "web"}]
    return config(["127.0.0.1:1"], listener={"mode": "forward", "allow": list(allow), "routes": routes})


async def connect(app: App, authority: str) -> bytes:
    """The answer to a CONNECT."""
    return await say(app, f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n")


async def absolute(app: App, authority: str) -> bytes:
    """The answer to an absolute-form request."""
    return await say(app, f"GET http://{authority}/latest/meta-data HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")


async def inside(app: App, authority: str) -> bytes:
    """The answer to a request for another host, within a CONNECT to the route's."""
    request = f"GET / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n"
    answer = await say(app, f"CONNECT web.internal:80 HTTP/1.1\r\nhost: web.internal\r\n\r\n{request}", heads=2)
    return answer.removeprefix(b"HTTP/1.1 200 OK\r\n\r\n")


async def say(app: App, text: str, heads: int = 1) -> bytes:
    address = app.address("out")
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(text.encode())
    answer = b""
    while answer.count(b"\r\n\r\n") < heads:
        data = await reader.read(65536)
        if not data:
            break
        answer += data
    writer.close()
    return answer


async def http2(app: App, *fields: tuple[str, str]) -> dict[str, str]:
    """The head of the answer to a request without a body over HTTP/2; {} for a reset."""
    peer = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    peer.initiate_connection()
    peer.send_headers(1, list(fields), end_stream=True)
    address = app.address("out")
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head: dict[str, str] | None = None
    while head is None:
        writer.write(peer.data_to_send())
        data = await reader.read(65536)
        for event in peer.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                head = {str(name): str(value) for name, value in event.headers}
            elif isinstance(event, h2.events.StreamReset):
                head = {}
        if not data:
            head = head or {}
    writer.close()
    return head


def is_forbidden(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 403 ") and b"x-sidecar-error: forbidden\r\n" in answer


# Hosts that lead to this machine, in the forms that resolvers take.
NUMBERS = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"]
NUMBERS += ["[0:0:0:0:0:ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]"]
ODD = ["127.1", "127.0.1", "0177.0.0.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0"]
NAMES = ["localhost", "LOCALHOST", "localhost.", "127.0.0.1."]


@pytest.mark.parametrize("spelling", [*ODD, "127.0.0.1"])
def test_the_odd_spellings_do_lead_to_this_machine(spelling: str) -> None:
    """Otherwise that they are refused would prove nothing."""
    (found, *_) = socket.getaddrinfo(spelling, 80, type=socket.SOCK_STREAM)
    assert str(found[4][0]).startswith(("127.", "0."))


async def test_nothing_that_leads_to_this_machine_is_reached_by_any_spelling(internal: Internal) -> None:
    hosts = NUMBERS + ODD + NAMES
    async with running(forwarding("*", "localhost", "*.internal")) as app:
        for host in hosts:
            authority = f"{host}:{internal.port}"
            assert is_forbidden(await connect(app, authority)), authority
            assert is_forbidden(await absolute(app, authority)), authority
            assert is_forbidden(await inside(app, authority)), authority
            tunnel = await http2(app, (":method", "CONNECT"), (":authority", authority))
            assert tunnel.get(":status") == "403", authority
            plain = await http2(app, (":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", "/"))
            assert plain.get(":status") == "403", authority
        requests = (await admin(app, "/api/requests?limit=1"))["requests"]
    assert internal.connections == 0
    assert requests[0]["failure"] == "forbidden"


@pytest.mark.parametrize(
    "host",
    [
        "%31%32%37.0.0.1",
        "127.0.0.1%00.example.org",
        "[::1%25lo]",
        "[::1%lo]",
        "user@127.0.0.1",
        "example.org@127.0.0.1",
        "127.0.0.1#example.org",
        "127.0.0.1\\example.org",
        "[127.0.0.1]",
        "::1",
        "127.0.0.1:80",
    ],
)
async def test_what_is_no_host_is_refused(internal: Internal, host: str) -> None:
    async with running(forwarding("*", "0.0.0.0/0", "::/0")) as app:
        for ask in (connect, absolute):
            answer = await ask(app, f"{host}:{internal.port}")
            assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 403 ")), answer
    assert internal.connections == 0


async def test_an_entry_that_names_the_address_lets_it_through(internal: Internal) -> None:
    for allow in (f"127.0.0.1:{internal.port}", "127.0.0.0/8", f"127.0.0.0/8:{internal.port}"):
        async with running(forwarding(allow, "localhost")) as app:
            assert (await absolute(app, f"127.0.0.1:{internal.port}")).endswith(b"secret")
            assert (await connect(app, f"127.0.0.1:{internal.port}")).startswith(b"HTTP/1.1 200 ")
            # A name under `allow` that leads to it, too; the same name's ::1 is left out.
            assert (await absolute(app, f"localhost:{internal.port}")).endswith(b"secret")
            # No other port of a name that is not there.
            assert is_forbidden(await absolute(app, f"elsewhere.internal:{internal.port}"))
            assert is_forbidden(await connect(app, f"[::1]:{internal.port}"))


async def test_a_denied_address_is_counted_by_what_it_is(internal: Internal) -> None:
    async with running(forwarding("localhost")) as app:
        await connect(app, "169.254.169.254:80")
        await absolute(app, f"localhost:{internal.port}")
        await absolute(app, "0x7f.1:80")
        await absolute(app, "example.org")
        (denied,) = [listener.destinations.denied for listener in app.runtime.snapshot.listeners.values()]
        # Neither a breaker nor a retry is the answer to it.
        for _ in range(8):
            assert is_forbidden(await absolute(app, f"localhost:{internal.port}"))
    told = {reason: number for reason, number in denied.items() if number}
    assert told == {"metadata": 1, "loopback": 9, "spelling": 1, "name": 1}


class Resolver:
    """Stands for socket.getaddrinfo: one list of addresses after the other, the last for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in addresses
        ]


class Named:
    """A server on one address, that says its name."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.connections = 0
        self.server: asyncio.Server

    async def listen(self, host: str, port: int) -> int:
        self.server = await asyncio.start_server(self._serve, host, port)
        return int(self.server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\n" + self.name)
        writer.close()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Named, Named, int]]:
    """One port: on 127.0.0.2 what may be reached, on 127.0.0.1 what may not."""
    good, bad = Named(b"good"), Named(b"evil")
    port = await good.listen("127.0.0.2", 0)
    await bad.listen("127.0.0.1", port)
    yield good, bad, port
    for server in (good.server, bad.server):
        server.close()
        await server.wait_closed()


async def test_a_name_that_is_rebound_between_the_check_and_the_connect_gains_nothing(
    pair: tuple[Named, Named, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, port = pair
    # What may be reached at the first look is what may not at every later one.
    resolver = Resolver(["127.0.0.2"], ["127.0.0.1"])
    async with running(forwarding("rebind.test", "127.0.0.2")) as app:
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        answer = await absolute(app, f"rebind.test:{port}")
        assert answer.endswith(b"good"), answer
        assert resolver.asked == ["rebind.test"]
        # A connection later, the new address is judged anew.
        assert is_forbidden(await absolute(app, f"rebind.test:{port}"))
        assert is_forbidden(await connect(app, f"rebind.test:{port}"))
        monkeypatch.undo()
    assert (good.connections, bad.connections) == (1, 0)


@pytest.mark.parametrize("answer", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.2"]])
async def test_of_a_names_addresses_only_the_permitted_is_connected_to(
    pair: tuple[Named, Named, int], answer: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, port = pair
    async with running(forwarding("*.test", "127.0.0.2")) as app:
        monkeypatch.setattr(socket, "getaddrinfo", Resolver(answer))
        assert (await absolute(app, f"mixed.test:{port}")).endswith(b"good")
        monkeypatch.undo()
    assert (good.connections, bad.connections) == (1, 0)


async def test_the_next_address_is_tried_when_one_does_not_answer(
    pair: tuple[Named, Named, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, _, port = pair
    async with running(forwarding("*.test", "127.0.0.2/31")) as app:
        monkeypatch.setattr(socket, "getaddrinfo", Resolver(["127.0.0.3", "127.0.0.2"]))
        assert (await absolute(app, f"two.test:{port}")).endswith(b"good")
        monkeypatch.setattr(socket, "getaddrinfo", Resolver(["127.0.0.3"]))
        assert (await absolute(app, f"dead.test:{port}")).startswith(b"HTTP/1.1 502 ")
        monkeypatch.undo()
    assert good.connections == 1


async def test_a_reload_with_a_shorter_list_ends_what_was_kept_open(
    pair: tuple[Named, Named, int], tmp_path: Any
) -> None:
    good, _, port = pair
    path = tmp_path / "sidecar.yaml"
    path.write_text(forwarding("127.0.0.2"))
    app = App(path)
    await app.start()
    try:
        assert (await absolute(app, f"127.0.0.2:{port}")).endswith(b"good")
        bound = app.address("out")
        path.write_text(forwarding("127.0.0.3"))
        assert await app.reload() == []
        assert app.address("out") == bound
        assert is_forbidden(await absolute(app, f"127.0.0.2:{port}"))
    finally:
        await app.stop()
    assert good.connections == 1


class Pool:
    """Who asks the connector."""

    protocol = "tcp"
    tls = None

    def __init__(self, address: Address, destinations: Destinations) -> None:
        self.endpoint = self.shares = self
        self.address = address
        self.destinations = destinations
        self.trouble = self.stage = ""
        self.told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_connected(self, connection: Any) -> None:
        self.told.set_result(connection)

    def on_connect_failed(self, failure: Failure) -> None:
        self.told.set_result(failure)

    def on_closed(self, connection: Any) -> None: ...


@pytest.mark.parametrize(("allow", "failure"), [("localhost", Failure.FORBIDDEN), ("127.0.0.0/8", None)])
def test_on_the_event_loop_that_the_sidecar_runs_in(allow: str, failure: Failure | None) -> None:
    async def dial() -> Any:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        turn = Turn(loop)
        connector = Connector(loop)
        snapshot: Any = None
        timers = Timers(loop, turn, time.monotonic)
        connector.runtime = Runtime(turn, timers, time.monotonic, random.Random(1), snapshot)
        port = server.sockets[0].getsockname()[1]
        pool = Pool(Address("localhost", port), Destinations([allow]))
        connector.dial(pool, 5.0)
        told = await pool.told
        if failure is None:
            told = told.transport.get_extra_info("peername")[0]
        await connector.close()
        server.close()
        await server.wait_closed()
        return told

    assert uvloop.run(dial()) == (failure or "127.0.0.1")
