"""Names that take long, and addresses of which some do."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import uvloop

from sidecar.policy.places import EXHAUSTED
from sidecar.wire.lookups import Lookups, connect_any

WITHIN = 20.0


class Resolver:
    """Stands for socket.getaddrinfo: says nothing of a name before it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._was_asked = asyncio.Event()
        self._answers: dict[str, list[str]] = {}
        self._told = threading.Condition()
        self._over = False
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: object, *args: object, **options: object) -> list[Any]:
        self._loop.call_soon_threadsafe(self._note, host)
        with self._told:
            self._told.wait_for(lambda: host in self._answers or self._over)
            numbers = self._answers.pop(host, [])
        if not numbers:
            raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 0)) for number in numbers]

    def _note(self, host: str) -> None:
        self.asked.append(host)
        self._was_asked.set()

    async def until_asked(self, number: int) -> list[str]:
        while len(self.asked) < number:
            self._was_asked.clear()
            await self._was_asked.wait()
        return self.asked

    def answer(self, host: str, *numbers: str) -> None:
        with self._told:
            self._answers[host] = [*numbers]
            self._told.notify_all()

    def end(self) -> None:
        with self._told:
            self._over = True
            self._told.notify_all()


@pytest.fixture
async def resolver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resolver]:
    made = Resolver(monkeypatch)
    yield made
    made.end()


async def test_names_that_take_long_hold_nobody_else_up(resolver: Resolver) -> None:
    lookups = Lookups()
    async with asyncio.timeout(WITHIN):
        # More than the event loop has threads for.
        waiting = [asyncio.create_task(lookups.addresses(f"{number}.test")) for number in range(20)]
        await resolver.until_asked(20)
        resolver.answer("quick.test", "10.0.0.1", "10.0.0.2", "10.0.0.1")
        assert await lookups.addresses("quick.test") == ["10.0.0.1", "10.0.0.2"]
        assert await lookups.addresses("::1") == ["::1"]
        resolver.end()
        found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(each) for each in found} == {socket.gaierror}


async def test_each_name_is_looked_up_once_at_a_time(resolver: Resolver) -> None:
    lookups = Lookups(at_once=3)
    async with asyncio.timeout(WITHIN):
        waiting = [asyncio.create_task(lookups.addresses(f"{name}.test")) for name in "aaabbcde"]
        assert await resolver.until_asked(3) == ["a.test", "b.test", "c.test"]
        # Whoever gives up does not start another one, nor end it for the others.
        waiting[0].cancel()
        for number, name in enumerate("abcde"):
            await resolver.until_asked(min(5, 3 + number))
            resolver.answer(f"{name}.test", f"10.0.0.{number}")
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert found[1:] == [[f"10.0.0.{number}"] for number in (0, 0, 1, 1, 2, 3, 4)]
        assert sorted(resolver.asked) == [f"{name}.test" for name in "abcde"]
        # Later it is asked again.
        resolver.answer("a.test", "10.0.0.9")
        assert await lookups.addresses("a.test") == ["10.0.0.9"]


async def test_who_closes_waits_for_nothing(resolver: Resolver) -> None:
    lookups = Lookups()
    waiting = asyncio.create_task(lookups.addresses("long.test"))
    await resolver.until_asked(1)
    lookups.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_without_a_thread_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(OSError, match="no thread") as told:
        await Lookups().addresses("any.test")
    assert told.value.errno in EXHAUSTED


def test_a_process_ends_while_names_are_looked_up() -> None:
    code = """
import asyncio, socket, threading, uvloop
from sidecar.wire.lookups import Lookups

async def main():
    asked, loop = asyncio.Event(), asyncio.get_running_loop()

    def silent(*args, **options):
        loop.call_soon_threadsafe(asked.set)
        threading.Event().wait()

    socket.getaddrinfo = silent
    asyncio.ensure_future(Lookups().addresses("long.test"))
    await asked.wait()

uvloop.run(main())
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


# -------------------------------------------------------------- several addresses


@contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """An address whose handshakes never finish: its queue of one is full (Linux drops the SYN then)."""
    with socket.socket() as listener, socket.socket() as filler:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        filler.connect((host, port))
        yield


@asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Greeting, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Greeting(asyncio.Protocol):
    """A server that speaks first."""

    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")


class Client(asyncio.Protocol):
    """Knows where it got to, and when it was greeted."""

    def __init__(self) -> None:
        self.greeted: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.host = transport.get_extra_info("peername")[0]

    def data_received(self, data: bytes) -> None:
        self.greeted.set_result(data)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(
    ("numbers", "reached"),
    [
        (["127.0.0.1"], "127.0.0.1"),
        (["127.0.0.3", "127.0.0.1"], "127.0.0.1"),
        (["127.0.0.2", "127.0.0.1"], "127.0.0.1"),
        (["127.0.0.2", "127.0.0.3", "127.0.0.1"], "127.0.0.1"),
        (["::1", "127.0.0.4", "127.0.0.1", "127.0.0.2"], "127.0.0.1"),
        (["127.0.0.3", "127.0.0.4"], ""),
        (["127.0.0.3"], ""),
    ],
)
def test_the_first_address_that_answers(run: Any, numbers: list[str], reached: str) -> None:
    """127.0.0.2 is silent, 127.0.0.3 and others refuse."""

    async def body() -> None:
        async with listening() as port, asyncio.timeout(WITHIN):
            with silent("127.0.0.2", port):
                if reached:
                    client = await connect_any(Client, numbers, port)
                    assert client.host == reached
                    assert await client.greeted == b"hello"
                    client.transport.abort()
                else:
                    with pytest.raises(ConnectionRefusedError):
                        await connect_any(Client, numbers, port)

    run(body())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("numbers", [["127.0.0.1"], ["127.0.0.3", "127.0.0.1"]])
def test_a_connection_that_met_itself_is_none(run: Any, numbers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As happens where nobody listens on a port that the system gives to connections."""

    async def body() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        connect, met = loop.create_connection, []

        async def from_that_port(factory: Any, host: str, port: int, **options: Any) -> Any:
            own = (host, port) if host == "127.0.0.1" else None
            transport, protocol = await connect(factory, host, port, local_addr=own, **options)
            met.append(transport.get_extra_info("peername"))
            return transport, protocol

        monkeypatch.setattr(loop, "create_connection", from_that_port)
        with pytest.raises(ConnectionRefusedError):
            await connect_any(Client, numbers, port)
        assert met == [("127.0.0.1", port)]

    run(body())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_who_gives_up_leaves_nothing_open(run: Any) -> None:
    async def body() -> None:
        async with listening() as port:
            with silent("127.0.0.2", port), silent("127.0.0.5", port):
                task = asyncio.create_task(connect_any(Client, ["127.0.0.2", "127.0.0.5"], port))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.sleep(0)
                assert not [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]

    run(body())
