"""The accept loop: out of files it waits, and neither spins nor gives up."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from sidecar.policy.places import Places, ceiling_for
from sidecar.wire.accept import Acceptor, _Accepted


class FakeLoop:
    """Says when a socket is readable, and keeps timers until the test lets them fire."""

    def __init__(self) -> None:
        self.readers: dict[Any, Callable[[], None]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def add_reader(self, sock: Any, call: Callable[[], None]) -> None:
        self.readers[sock] = call

    def remove_reader(self, sock: Any) -> None:
        del self.readers[sock]

    def call_later(self, delay: float, call: Callable[[], None]) -> "FakeLoop":
        self.timers.append((delay, call))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def fire(self) -> float:
        delay, call = self.timers.pop(0)
        call()
        return delay


class FakeSocket:
    """A listening socket out of something."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM

    def __init__(self) -> None:
        self.error: int = errno.EMFILE
        self.asked = 0

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def _accept(self) -> tuple[int, Any]:
        self.asked += 1
        raise OSError(self.error, "no")


class Short:
    """An acceptor whose socket fails."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.socket = FakeSocket()
        self.places = Places()
        self.acceptor = Acceptor(
            self.loop,  # type: ignore[arg-type]
            self.socket,  # type: ignore[arg-type]
            self.places,
            asyncio.Protocol,
        )
        self.acceptor.start()

    def readable(self) -> None:
        self.loop.readers[self.socket]()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
def test_out_of_anything_it_asks_once_and_waits_longer_and_longer(number: int) -> None:
    short = Short()
    short.socket.error = number
    waits = []
    for _ in range(8):
        short.readable()
        assert not short.loop.readers, "a readable socket that is still watched would be asked at once"
        waits.append(short.loop.fire())
    assert short.socket.asked == 8
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert sum(short.places.errors.values()) == 8


def test_a_bug_is_not_met_again_at_once() -> None:
    short = Short()

    def fails() -> tuple[int, Any]:
        raise RuntimeError("a bug")

    short.socket._accept = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        short.readable()
    assert not short.loop.readers
    assert short.loop.fire() == 0.05
    assert short.socket in short.loop.readers


def test_growth_hears_of_each_client() -> None:
    """A thousand connections at once are memory, too."""
    clients = []
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        short = Short()
        short.places.on_client = lambda: clients.append(1)
        descriptor, _ = listening._accept()  # type: ignore[attr-defined]
        accepted = _Accepted(listening.family, listening.type, 0, descriptor)
        accepted.counted(short.places)
        accepted.close()
    assert clients == [1]
    assert short.places.clients == 0


def test_a_connection_that_has_gone_in_the_queue_is_no_error() -> None:
    short = Short()
    short.socket.error = errno.ECONNABORTED
    short.readable()
    assert short.socket in short.loop.readers
    assert sum(short.places.errors.values()) == 0


def test_without_a_file_to_refuse_with_the_queue_waits_until_one_left() -> None:
    short = Short()
    short.places.ceiling = ceiling_for(64, 20)
    short.places.refusals = short.places.ceiling.refusals
    short.readable()
    assert (short.socket.asked, short.loop.readers) == (0, {})
    short.places.refusing_ended()
    assert short.socket in short.loop.readers


def test_closed_while_it_waits_it_asks_no_more() -> None:
    short = Short()
    short.readable()
    short.acceptor.close()
    assert short.loop.timers == []
    assert short.loop.readers == {}


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def eof_received(self) -> bool:
        return False


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop)


async def _serve(places: Places, sock: socket.socket) -> AsyncIterator[Acceptor]:
    acceptor = Acceptor(asyncio.get_running_loop(), sock, places, Echo)
    acceptor.start()
    yield acceptor
    acceptor.close()
    sock.close()


async def _connect(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if sock.family == socket.AF_UNIX:
        return await asyncio.open_unix_connection(sock.getsockname())
    return await asyncio.open_connection(*sock.getsockname())


@pytest.mark.parametrize("unix", [False, True])
def test_every_connection_is_counted_and_given_back(runner: asyncio.Runner, unix: bool, tmp_path: Any) -> None:
    places = Places()

    async def main() -> None:
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        sock.bind(str(tmp_path / "s") if unix else ("127.0.0.1", 0))
        sock.listen()
        async for _ in _serve(places, sock):
            pairs = [await _connect(sock) for _ in range(20)]
            for reader, writer in pairs:
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
            assert places.clients == 20
            left = asyncio.Event()
            for _, writer in pairs:
                writer.close()
                await writer.wait_closed()
            async with asyncio.timeout(5):
                while places.clients:
                    left.clear()
                    places.when_one_left(left.set)
                    await left.wait()

    with runner:
        runner.run(main())
    assert places.clients == 0
