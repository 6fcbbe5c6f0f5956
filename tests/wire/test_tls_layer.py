"""sidecar.wire.tls_layer on real sockets and uvloop, against OpenSSL through `ssl`'s own sockets."""

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.identity.errors import REASONS, reason_of
from sidecar.proxy.runtime import Runtime
from sidecar.wire.timers import Timers
from sidecar.wire.tls_layer import RefusedError, TlsLayer, TruncatedError
from sidecar.wire.turn import Turn
from tests.support.authority import DAY, Authority

NAME = "web.internal"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class App(asyncio.Protocol):
    """What speaks over the layer; answers by `answer(app, data)`."""

    def __init__(self, answer: Callable[["App", bytes], None] = lambda app, data: None, keep: bool = False) -> None:
        self.answer = answer
        self.keep = keep
        self.transport: Any = None
        self.heard = b""
        self.ended = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.pauses = 0
        self.made = asyncio.Event()
        self.peer = ""
        self.version = ""
        self._changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.peer = transport.get_extra_info("peername")[0]
        self.version = transport.get_extra_info("ssl_object").version()
        self.made.set()

    async def until(self, data: bytes) -> None:
        while self.heard != data:
            self._changed.clear()
            await self._changed.wait()

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self._changed.set()
        self.answer(self, data)

    def eof_received(self) -> bool:
        self.ended.set()
        return self.keep

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)

    def pause_writing(self) -> None:
        self.pauses += 1


class World:
    """A server with one App for each connection, and what its handshakes came to."""

    def __init__(self, context: ssl.SSLContext, make: Callable[[], App], timeout: float = 5.0) -> None:
        loop = asyncio.get_running_loop()
        turn = Turn(loop)
        snapshot: Any = None
        self.timers = Timers(loop, turn, time.monotonic)
        self.runtime = Runtime(turn, self.timers, time.monotonic, random.Random(1), snapshot)
        self.context = context
        self.make = make
        self.timeout = timeout
        self.opened: asyncio.Future[App] = loop.create_future()
        self.failed: asyncio.Future[Exception] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.crashes: list[Any] = []
        loop.set_exception_handler(lambda _, context: self.crashes.append(context))
        self.port = 0

    def layer(self) -> TlsLayer:
        return TlsLayer(
            self.runtime,
            self.context,
            self._on_open,
            lambda layer, error: self.failed.set_result(error),
            lambda layer: self.gone.set_result(None),
            timeout=self.timeout,
        )

    def _on_open(self, layer: TlsLayer) -> None:
        app = self.make()
        layer.set_protocol(app)
        app.connection_made(layer)
        self.opened.set_result(app)


def serving(
    context: ssl.SSLContext,
    body: Callable[[World], Awaitable[None]],
    make: Callable[[], App] = App,
    timeout: float = 5.0,
) -> None:
    async def main() -> None:
        world = World(context, make, timeout)
        server = await asyncio.get_running_loop().create_server(world.layer, "127.0.0.1", 0)
        world.port = server.sockets[0].getsockname()[1]
        try:
            await asyncio.wait_for(body(world), 20)
        finally:
            server.close()
        assert world.crashes == []

    uvloop.run(main())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> ssl.SSLContext:
    return authority.issue(NAME).as_server()


def connected(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", port), 10)
    return context.wrap_socket(sock, server_hostname=NAME, suppress_ragged_eofs=False)


async def asked(port: int, context: ssl.SSLContext, talk: Callable[[ssl.SSLSocket], Any]) -> Any:
    """What a client in a thread of its own got, or its error."""

    def run() -> Any:
        try:
            with connected(port, context) as tls:
                return talk(tls)
        except OSError as error:
            return error

    return await asyncio.to_thread(run)


def exchanged(tls: ssl.SSLSocket, data: bytes, size: int) -> bytes:
    tls.sendall(data)
    found = b""
    while len(found) < size:
        piece = tls.recv(1 << 16)
        if not piece:
            break
        found += piece
    return found


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("size", [1, 16_384, 16_385, 300_000])
def test_what_is_sent_arrives_both_ways(
    authority: Authority, server: ssl.SSLContext, version: ssl.TLSVersion, size: int
) -> None:
    context = authority.as_client()
    context.minimum_version = context.maximum_version = version
    data = random.Random(size).randbytes(size)

    async def body(world: World) -> None:
        assert await asked(world.port, context, lambda tls: exchanged(tls, data, size)) == data
        app = await world.opened
        assert app.heard == data
        assert app.peer == "127.0.0.1"
        assert app.version == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]

    serving(server, body, lambda: App(lambda app, data: app.transport.write(data)))


def test_many_pieces_are_few_records(authority: Authority, server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        found = await asked(world.port, authority.as_client(), lambda tls: exchanged(tls, b"x", 3000))
        assert found == b"abc" * 1000

    serving(server, body, lambda: App(lambda app, data: app.transport.writelines([b"a", b"b", b"c"] * 1000)))


def test_a_close_says_that_it_was_all(authority: Authority, server: ssl.SSLContext) -> None:
    def answer(app: App, data: bytes) -> None:
        app.transport.write(b"all of it")
        app.transport.close()
        app.transport.write(b"never sent")

    async def body(world: World) -> None:
        # recv gives b"" and no error: there was a close_notify.
        assert await asked(world.port, authority.as_client(), lambda tls: exchanged(tls, b"x", 100)) == b"all of it"
        assert await (await world.opened).lost is None

    serving(server, body, lambda: App(answer))


def test_the_peers_close_notify_ends_it_cleanly(authority: Authority, server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        await asked(world.port, authority.as_client(), lambda tls: tls.unwrap())
        app = await world.opened
        assert await app.lost is None
        assert app.ended.is_set()

    serving(server, body)


def half(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"half")
    socket.socket.shutdown(tls, socket.SHUT_WR)  # not the TLS socket's own
    tls.recv(1)


def test_a_mere_fin_is_no_clean_end(authority: Authority, server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        await asked(world.port, authority.as_client(), half)
        app = await world.opened
        assert isinstance(await app.lost, TruncatedError)
        assert (app.heard, app.ended.is_set()) == (b"half", False)

    serving(server, body)


def test_after_our_end_the_peer_may_still_talk(authority: Authority, server: ssl.SSLContext) -> None:
    def talk(tls: ssl.SSLSocket) -> bytes:
        tls.sendall(b"one")
        first = tls.recv(100)
        assert tls.recv(100) == b""  # its close_notify
        tls.sendall(b"two")
        return first

    def answer(app: App, data: bytes) -> None:
        if data == b"one":
            app.transport.write(b"bye")
            app.transport.write_eof()
        else:
            app.transport.close()

    async def body(world: World) -> None:
        assert await asked(world.port, authority.as_client(), talk) == b"bye"
        app = await world.opened
        await app.lost
        assert app.heard == b"onetwo"

    serving(server, body, lambda: App(answer))


def test_after_the_peers_end_we_may_still_talk(authority: Authority, server: ssl.SSLContext) -> None:
    """A tunnel whose client has ended its direction."""

    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = authority.as_client().wrap_bio(incoming, outgoing, server_hostname=NAME)

        async def step(call: Callable[[], Any]) -> Any:
            while True:
                try:
                    found = call()
                    writer.write(outgoing.read())
                    return found
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(1 << 16))

        await step(tls.do_handshake)
        app = await world.opened
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        writer.write(outgoing.read())
        await app.ended.wait()
        app.transport.write(b"late")
        assert await step(lambda: tls.read(100)) == b"late"
        app.transport.close()
        await app.lost
        writer.close()

    serving(server, body, lambda: App(keep=True))


def test_a_reader_that_is_slow_holds_the_writer_up(authority: Authority, server: ssl.SSLContext) -> None:
    def answer(app: App, data: bytes) -> None:
        app.transport.set_write_buffer_limits(64 * 1024, 1024)
        app.transport.write(bytes(8 << 20))
        app.transport.pause_reading()
        app.transport.resume_reading()

    def talk(tls: ssl.SSLSocket) -> int:
        tls.sendall(b"x")
        size = 0
        while size < 8 << 20:
            size += len(tls.recv(1 << 16))
        return size

    async def body(world: World) -> None:
        assert await asked(world.port, authority.as_client(), talk) == 8 << 20
        assert (await world.opened).pauses >= 1

    serving(server, body, lambda: App(answer))


def test_a_handshake_byte_by_byte(authority: Authority, server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = authority.as_client().wrap_bio(incoming, outgoing, server_hostname=NAME)
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
                tls.write(b"hello")
            except ssl.SSLWantReadError:
                pass
            for byte in outgoing.read():
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            if not done:
                incoming.write(await reader.read(1 << 16))
        app = await world.opened
        await app.until(b"hello")
        writer.close()
        await app.lost

    serving(server, body)


# Handshakes that fail: the alert arrives, and the server knows why.


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("shown", ["nothing", "a stranger's", "an expired one"])
def test_a_client_is_told_what_is_wrong_with_its_certificate(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion, shown: str
) -> None:
    stranger = Authority(tmp_path, "stranger")
    identity = {
        "nothing": None,
        "a stranger's": stranger.issue("me"),
        "an expired one": authority.issue("me", begins=-9 * DAY, ends=-DAY),
    }[shown]
    context = authority.as_client(identity)
    context.minimum_version = context.maximum_version = version
    wants = {"nothing": "no_certificate", "a stranger's": "unknown_ca", "an expired one": "expired"}[shown]
    told = f"peer_{wants}"
    if (shown, version) == ("nothing", V12):
        told = "peer_refused"  # TLS 1.2 has no alert of its own for that

    async def body(world: World) -> None:
        error = await asked(world.port, context, lambda tls: exchanged(tls, b"x" * 100_000, 1))
        assert isinstance(error, ssl.SSLError)
        assert reason_of(error) == told
        assert reason_of(await world.failed) == wants
        await world.gone
        assert not world.opened.done()

    serving(authority.issue(NAME).as_server(authority.path), body)


def test_a_client_that_does_not_trust_us(server: ssl.SSLContext, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")

    async def body(world: World) -> None:
        error = await asked(world.port, stranger.as_client(), lambda tls: None)
        assert reason_of(error) == "unknown_ca"
        assert reason_of(await world.failed) == "peer_unknown_ca"
        await world.gone

    serving(server, body)


@pytest.mark.parametrize("version", [V12, V13])
def test_a_client_that_looks_at_our_name_when_the_handshake_is_over(
    server: ssl.SSLContext, authority: Authority, version: ssl.TLSVersion
) -> None:
    """One that says so by an alert, as RFC 8446 6.2 allows at any time."""
    context = authority.as_client()
    context.minimum_version = context.maximum_version = version

    def talk(port: int) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            shaken = False
            while not shaken:
                try:
                    tls.do_handshake()
                    shaken = True
                except ssl.SSLWantReadError:
                    pass
                sock.sendall(outgoing.read())
                if not shaken:
                    incoming.write(sock.recv(65536))
            # An encrypted alert is what OpenSSL sends when it meets nonsense.
            incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(ssl.SSLError, match="MAC"):
                tls.read(1)
            sock.sendall(outgoing.read())
            while sock.recv(65536):
                pass

    async def body(world: World) -> None:
        await asyncio.to_thread(talk, world.port)
        assert reason_of(await world.failed) == "peer_refused"
        assert isinstance(await (await world.opened).lost, ssl.SSLError)

    serving(server, body)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_what_is_no_tls(server: ssl.SSLContext, data: bytes) -> None:
    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(data)
        assert reason_of(await world.failed) == "not_tls"
        await reader.read()
        writer.close()
        await world.gone

    serving(server, body)


def test_silence_is_cut_off(server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        assert reason_of(await world.failed) == "timeout"
        assert await reader.read() == b""
        await world.gone
        writer.close()
        assert len(world.timers) == 0

    serving(server, body, timeout=0.05)


def test_a_port_check_is_no_failed_handshake(server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.close()
        await world.gone
        assert not world.failed.done()
        assert len(world.timers) == 0

    serving(server, body)


def test_a_peer_that_leaves(server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(b"\x16\x03\x01")
        writer.close()
        assert reason_of(await world.failed) == "closed"
        await world.gone
        assert len(world.timers) == 0

    serving(server, body)


def test_an_alert_in_a_failed_handshake_survives_what_the_client_still_sends(authority: Authority) -> None:
    """A client of TLS 1.3 sends its request before it hears that it may not come in."""
    context = authority.as_client()

    def talk(tls: ssl.SSLSocket) -> Any:
        try:
            for _ in range(50):
                tls.sendall(b"x" * 16_000)
        except OSError:
            pass  # cut off; the alert was there before
        return tls.recv(1)

    async def body(world: World) -> None:
        error = await asked(world.port, context, talk)
        assert isinstance(error, ssl.SSLError)
        assert reason_of(error) == "peer_no_certificate"
        await world.gone

    serving(authority.issue(NAME).as_server(authority.path), body)


# The client's side.


async def dialled(world: World, context: ssl.SSLContext, app: App) -> tuple[TlsLayer, asyncio.Future[Exception]]:
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def opened(layer: TlsLayer) -> None:
        layer.set_protocol(app)
        app.connection_made(layer)

    layer = TlsLayer(world.runtime, context, opened, lambda layer, error: failed.set_result(error), server_name=NAME)
    await asyncio.get_running_loop().create_connection(lambda: layer, "127.0.0.1", world.port)
    return layer, failed


def test_two_layers_talk(authority: Authority, server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        app = App(lambda app, data: app.transport.close())
        layer, _ = await dialled(world, authority.as_client(), app)
        other = await world.opened
        await app.made.wait()
        assert layer.is_open
        assert layer.protocol_chosen == "http/1.1"
        layer.write(b"hello")
        assert await app.lost is None
        assert await other.lost is None
        assert (other.heard, app.heard) == (b"hello", b"hello")
        layer.write(b"late")  # and nothing happens
        layer.close()
        layer.abort()
        assert layer.is_closing()

    serving(server, body, lambda: App(lambda app, data: app.transport.write(data)))


def test_a_server_that_refuses_our_certificate_later(authority: Authority) -> None:
    async def body(world: World) -> None:
        app = App()
        layer, failed = await dialled(world, authority.as_client(), app)
        assert reason_of(await failed) == "peer_no_certificate"
        assert isinstance(await app.lost, RefusedError)
        assert not layer.is_open

    serving(authority.issue(NAME).as_server(authority.path), body)


class Wire:
    """A transport of which nothing leaves; what would be read lies in `sock`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self.sock, "peername": ("127.0.0.1", 1)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...
    def abort(self) -> None: ...
    def write_eof(self) -> None: ...


class Stillness:
    """Timers and all else that a layer asks of a runtime: nothing ever fires."""

    def __init__(self) -> None:
        self.timers = self
        self.waiting: set[int] = set()

    def add(self, delay: float, timed: Any) -> int:
        self.waiting.add(len(self.waiting) + 1)
        return len(self.waiting)

    def cancel(self, token: int) -> None:
        self.waiting.discard(token)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_comes_a_handshake_ends_once_and_nothing_is_raised(
    authority: Authority, server: ssl.SSLContext, data: st.DataObject
) -> None:
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        authority.as_client().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=NAME).do_handshake()
    sent = bytearray(hello.read())
    for _ in range(data.draw(st.integers(0, 3))):
        sent[data.draw(st.integers(0, 200))] = data.draw(st.integers(0, 255))
    sent += data.draw(st.binary(max_size=40))
    pieces = data.draw(st.lists(st.integers(1, 300), max_size=5))
    told: list[str] = []
    runtime: Any = Stillness()
    layer = TlsLayer(
        runtime,
        server,
        lambda layer: told.append("open"),
        lambda layer, error: told.append(reason_of(error)),
        lambda layer: told.append("gone"),
        timeout=1.0,
    )
    near, far = socket.socketpair()
    wire: Any = Wire(near)
    layer.connection_made(wire)
    for size in [*pieces, len(sent)]:
        layer.data_received(bytes(sent[:size]))
        del sent[:size]
    layer.eof_received()
    layer.connection_lost(None)
    near.close()
    far.close()
    assert len(told) == 2
    assert told[0] in REASONS
    assert told[1] == "gone"


def test_last_words_are_read_when_writing_fails_before_them(authority: Authority) -> None:
    """The server's close resets the connection, for our request lies there unread."""

    async def body(world: World) -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        app, failed = App(), []

        def opened(layer: TlsLayer) -> None:
            layer.set_protocol(app)
            app.connection_made(layer)

        layer = TlsLayer(
            world.runtime, authority.as_client(), opened, lambda layer, error: failed.append(error), server_name=NAME
        )
        wire: Any = Wire(near)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = authority.issue(NAME).as_server(authority.path).wrap_bio(incoming, outgoing, server_side=True)
        layer.connection_made(wire)
        for _ in range(2):
            incoming.write(wire.written)
            wire.written = b""
            try:
                server.do_handshake()
            except ssl.SSLWantReadError:
                layer.data_received(outgoing.read())
            except ssl.SSLError:
                far.send(outgoing.read())  # the alert
        assert layer.is_open
        layer.connection_lost(BrokenPipeError())
        assert [reason_of(error) for error in failed] == ["peer_no_certificate"]
        assert isinstance(await app.lost, RefusedError)
        near.close()
        far.close()

    serving(authority.issue(NAME).as_server(), body)


def test_a_record_that_was_tampered_with(authority: Authority, server: ssl.SSLContext) -> None:
    async def body(world: World) -> None:
        app = App()
        layer, _ = await dialled(world, authority.as_client(), app)
        other = await world.opened
        await app.made.wait()
        assert layer.is_open
        layer._raw.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert isinstance(await other.lost, ssl.SSLError)
        assert other.heard == b""
        await app.lost

    serving(server, body)
