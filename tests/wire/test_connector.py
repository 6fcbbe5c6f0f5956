"""sidecar.wire.connector on real sockets and uvloop: TCP, unix sockets, TLS."""

import asyncio
import errno
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from sidecar.model.address import Address
from sidecar.model.head import RequestHead
from sidecar.model.outcome import Failure
from sidecar.policy.destinations import Destinations
from sidecar.policy.places import Ceiling
from sidecar.proxy.runtime import Runtime
from sidecar.wire.connector import ENDED, NO_HTTP2, TROUBLES, UNRESOLVED, Connector
from sidecar.wire.timers import Timers
from sidecar.wire.tls import ClientTls
from sidecar.wire.turn import Turn
from tests.interop.grpc_calls import FORBIDDEN_WORDS
from tests.support.fault_server import FaultServer, refusing_port, silent_port
from tests.wire.h2_peers import Heard

NAME = "users.internal"


class Shares:
    name = "web"
    tls: ClientTls | None = None
    destinations: Destinations | None = None


class Endpoint:
    def __init__(self, address: Address) -> None:
        self.address = address
        self.trouble = self.stage = ""


class Pool:
    """Who asks for a connection: it waits for the one answer."""

    def __init__(self, address: Address, protocol: str = "http1", tls: ClientTls | None = None) -> None:
        self.endpoint = Endpoint(address)
        self.protocol = protocol
        self.shares = Shares()
        self.shares.tls = tls
        self.told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.freed = asyncio.Event()
        self.lost = asyncio.Event()

    def on_connected(self, connection: Any) -> None:
        self.told.set_result(connection)

    def on_connect_failed(self, failure: Failure) -> None:
        self.told.set_result(failure)

    def on_idle(self, connection: Any) -> None:
        self.freed.set()

    def on_available(self, connection: Any) -> None: ...
    def on_draining(self, connection: Any) -> None: ...

    def on_closed(self, connection: Any, *idle: bool) -> None:
        self.lost.set()


class World:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        turn = Turn(loop)
        snapshot: Any = None
        self.connector = Connector(loop)
        timers = Timers(loop, turn, time.monotonic)
        self.runtime = Runtime(turn, timers, time.monotonic, random.Random(1), snapshot)
        self.connector.runtime = self.runtime
        self.crashes: list[BaseException] = []
        self.runtime.on_crash = self.crashes.append

    async def dial(self, pool: Pool, timeout: float = 5.0) -> Any:
        self.connector.dial(pool, timeout)
        assert not pool.told.done()  # never before `dial` returns
        return await asyncio.wait_for(pool.told, 10)

    def counted(self, protocol: str = "http1") -> int:
        return self.runtime.connections["upstream", protocol]


def on_uvloop(body: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        try:
            await body(world)
        finally:
            await world.connector.close()
            await asyncio.sleep(0)

    uvloop.run(main())


def at(port: int) -> Address:
    return Address("127.0.0.1", port)


async def ask(world: World, pool: Pool, connection: Any) -> Heard:
    """One exchange over a fresh connection."""
    heard = Heard()
    world.runtime.turn.begin()
    connection.open(heard).send_head(RequestHead(b"GET", b"/", b"a", []), True)
    world.runtime.turn.end()
    await asyncio.wait_for(pool.freed.wait(), 5)
    return heard


def test_a_connection_that_serves_and_is_counted_until_it_is_lost() -> None:
    async def body(world: World) -> None:
        async with FaultServer() as server:
            pool = Pool(at(server.port))
            connection = await world.dial(pool)
            assert world.counted() == 1
            assert (await ask(world, pool, connection)).ended
            assert not world.connector.readable(connection)
            server.close_connections()
            await asyncio.wait_for(pool.lost.wait(), 5)
            assert world.connector.readable(connection)
            assert world.counted() == 0

    on_uvloop(body)


def test_a_close_that_nobody_has_read_yet_shows() -> None:
    async def body(world: World) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            connection = await world.dial(Pool(at(listener.getsockname()[1])))
            accepted, _ = listener.accept()
            assert not world.connector.readable(connection)
            accepted.close()  # the event loop has no turn before the look
            assert world.connector.readable(connection)

    on_uvloop(body)


def test_refused() -> None:
    async def body(world: World) -> None:
        async with refusing_port() as port:
            assert await world.dial(Pool(at(port))) is Failure.CONNECT_FAILED
            assert world.counted() == 0

    on_uvloop(body)


def test_without_a_place_nothing_is_dialled_and_no_endpoint_is_blamed() -> None:
    async def body(world: World) -> None:
        async with FaultServer() as server:
            places = world.runtime.places
            places.ceiling = Ceiling(clients=1, connections=1)
            await world.dial(Pool(at(server.port)))
            assert (places.upstream, places.may_dial) == (1, False)
            assert await world.dial(Pool(at(server.port))) is Failure.OVERLOADED
            assert not Failure.OVERLOADED.blames_endpoint
            assert len(server.connections) == 1

    on_uvloop(body)


def test_a_place_is_given_back_however_the_connection_ends() -> None:
    async def body(world: World) -> None:
        async with FaultServer() as server, refusing_port() as port:
            pool = Pool(at(server.port))
            connection = await world.dial(pool)
            await world.dial(Pool(at(port)))
            connection.transport.abort()
            await asyncio.wait_for(pool.lost.wait(), 5)
            assert world.runtime.places.upstream == 0

    on_uvloop(body)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL])
def test_a_shortage_of_our_own_is_not_the_endpoints_fault(number: int) -> None:
    async def body(world: World) -> None:
        async def fail(*_: object) -> None:
            raise OSError(number, "no")

        world.connector._open = fail  # type: ignore[method-assign,assignment]
        assert await world.dial(Pool(at(1))) is Failure.OVERLOADED
        assert world.runtime.places.upstream == 0

    on_uvloop(body)


def test_a_handshake_that_never_ends() -> None:
    async def body(world: World) -> None:
        async with silent_port() as port:
            assert await world.dial(Pool(at(port)), 0.05) is Failure.CONNECT_TIMEOUT

    on_uvloop(body)


def test_a_name_that_nobody_knows() -> None:
    async def body(world: World) -> None:
        pool = Pool(Address("nowhere.invalid", 80))
        assert await world.dial(pool) is Failure.CONNECT_FAILED
        assert pool.endpoint.trouble == "its name was not resolved"

    on_uvloop(body)


def test_a_server_that_speaks_http1_alone_is_told_from_one_that_is_not_there() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\n\r\n")
        writer.close()

    async def body(world: World) -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            pool = Pool(at(server.sockets[0].getsockname()[1]), "http2")
            assert await world.dial(pool) is Failure.CONNECT_FAILED
            assert pool.endpoint.trouble == "it did not answer in HTTP/2"
        # Once it is gone nobody knows what it speaks.
        again = Pool(pool.endpoint.address, "http2")
        again.endpoint = pool.endpoint
        assert await world.dial(again) is Failure.CONNECT_FAILED
        assert again.endpoint.trouble == "it takes no connections"

    on_uvloop(body)


def test_a_connection_that_is_closed_before_its_dial_is_told() -> None:
    async def body(world: World) -> None:
        async with FaultServer() as server:
            pool = Pool(at(server.port))
            connect = world.connector._connect

            async def connect_and_lose(pool: Any, connection: Any) -> None:
                await connect(pool, connection)
                connection.transport.abort()

            world.connector._connect = connect_and_lose  # type: ignore[method-assign]
            assert await world.dial(pool) is Failure.CONNECT_FAILED
            await asyncio.wait_for(pool.lost.wait(), 5)
            assert world.counted() == 0

    on_uvloop(body)


def test_a_bug_fails_the_dial_and_is_told() -> None:
    async def body(world: World) -> None:
        async def broken(pool: Any, connection: Any) -> None:
            raise RuntimeError("bug")

        world.connector._connect = broken  # type: ignore[method-assign]
        assert await world.dial(Pool(at(1))) is Failure.CONNECT_FAILED
        assert len(world.crashes) == 1

    on_uvloop(body)


def test_a_unix_socket(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        path = str(tmp_path / "s")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await reader.read()
            writer.close()

        async with await asyncio.start_unix_server(serve, path):
            pool = Pool(Address("", 0, path))
            connection = await world.dial(pool)
            assert (await ask(world, pool, connection)).head.status == 204
            connection.close()
            await asyncio.wait_for(pool.lost.wait(), 5)
        assert await world.dial(Pool(Address("", 0, str(tmp_path / "none")))) is Failure.CONNECT_FAILED

    on_uvloop(body)


def test_what_is_under_way_ends_with_the_connector() -> None:
    async def body(world: World) -> None:
        async with silent_port() as port, FaultServer() as server:
            pool, waiting = Pool(at(server.port)), Pool(at(port))
            await world.dial(pool)
            world.connector.dial(waiting, 60)
            await world.connector.close()
            await asyncio.wait_for(pool.lost.wait(), 5)
            assert not waiting.told.done()

    on_uvloop(body)


class Authority:
    """A certificate authority, its file, and a server's side with a certificate for NAME."""

    def __init__(self, folder: Path, name: str = NAME, alpn: list[str] | None = None) -> None:
        made = trustme.CA()
        self.path = str(folder / f"{id(made)}.pem")
        made.cert_pem.write_to_path(self.path)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.issue_cert(name).configure_cert(self.server)
        if alpn is not None:
            self.server.set_alpn_protocols(alpn)


def trusting(ca: str | None, name: str = NAME, verify: bool = True) -> ClientTls:
    return ClientTls(ca, None, None, name, verify)


@pytest.mark.parametrize(
    ("protocol", "alpn", "works"),
    [
        ("http1", ["http/1.1"], True),
        ("http1", None, True),
        ("http2", ["h2"], True),
        ("http2", ["h2", "http/1.1"], True),
        ("http2", ["http/1.1"], False),
        ("http2", None, False),
    ],
)
def test_tls(tmp_path: Path, protocol: str, alpn: list[str] | None, works: bool) -> None:
    authority = Authority(tmp_path, alpn=alpn)

    async def body(world: World) -> None:
        async with FaultServer(tls=authority.server) as server:
            pool = Pool(at(server.port), protocol, trusting(authority.path))
            connection = await world.dial(pool)
            if not works:
                assert connection is Failure.CONNECT_FAILED
                assert world.counted(protocol) == 0
                return
            assert world.counted(protocol) == 1
            if protocol == "http1":
                assert (await ask(world, pool, connection)).ended

    on_uvloop(body)


@pytest.mark.parametrize("wrong", ["authority", "name"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_server_that_is_not_who_it_should_be(tmp_path: Path, wrong: str, verify: bool) -> None:
    authority = Authority(tmp_path, "other.internal" if wrong == "name" else NAME)
    trusted = authority if wrong == "name" else Authority(tmp_path)

    async def body(world: World) -> None:
        async with FaultServer(tls=authority.server) as server:
            told = await world.dial(Pool(at(server.port), "http1", trusting(trusted.path, verify=verify)))
            assert (told is Failure.CONNECT_FAILED) is verify

    on_uvloop(body)


def test_a_server_that_speaks_no_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def body(world: World) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            pool = Pool(at(server.sockets[0].getsockname()[1]), "http1", trusting(authority.path))
            assert await world.dial(pool) is Failure.CONNECT_FAILED

    on_uvloop(body)


def test_a_tls_server_that_says_nothing_has_failed_once(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            gone.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            pool = Pool(at(server.sockets[0].getsockname()[1]), "http1", trusting(Authority(tmp_path).path))
            assert await world.dial(pool, 0.05) is Failure.CONNECT_TIMEOUT
            await asyncio.wait_for(gone.wait(), 5)
        failed = {key: count for key, count in world.runtime.tls.errors.items() if count}
        assert failed == {("upstream", "timeout"): 1}

    on_uvloop(body)


def test_the_address_is_the_name_when_none_is_given(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "127.0.0.1")

    async def body(world: World) -> None:
        async with FaultServer(tls=authority.server) as server:
            pool = Pool(at(server.port), "http1", trusting(authority.path, name=""))
            assert (await ask(world, pool, await world.dial(pool))).ended

    on_uvloop(body)


def test_the_words_about_endpoints_make_no_client_repeat_by_itself() -> None:
    words = [*TROUBLES.values(), UNRESOLVED, NO_HTTP2, ENDED]
    assert not [each for each in words for word in FORBIDDEN_WORDS if word in each]
