"""Names looked up and connected to, so that one which takes long holds up no other.

The event loop's own look-ups share four threads with each other, which a resolver that
is silent holds for many seconds each, and the process does not end before they have. Here
each has a thread of its own, that nobody waits for at the end.
"""

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any

# So many seconds an address is waited for before the next one is tried beside it (RFC 8305 5).
_STAGGER = 0.25
# Each is a thread, for as long as the resolver takes.
_AT_ONCE = 64


class Lookups:
    """Looks up names: so many at once, each name once at a time. Who must not keep others
    waiting, nor wait for them, has his own."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._running: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """A host's addresses as numbers, in the resolver's order; OSError when it has none."""
        if is_number(host):
            return [host]
        task = self._running.get(host)
        if task is None:
            task = self._running[host] = asyncio.create_task(self._look_up(host))
            task.add_done_callback(partial(self._done, host))
        # A dial that gives up does not end the look-up: its thread goes on in any case.
        return await asyncio.shield(task)

    async def _look_up(self, host: str) -> list[str]:
        async with self._room:
            found = await _on_a_thread(host)
        return list(dict.fromkeys(_number(family, sockaddr) for family, _, _, _, sockaddr in found))

    def _done(self, host: str, task: asyncio.Task[list[str]]) -> None:
        del self._running[host]
        if not task.cancelled():
            task.exception()  # nobody may be left to hear of it

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._running.values():
            task.cancel()


async def connect_any(factory: Callable[[], Any], numbers: Sequence[str], port: int) -> Any:
    """Connect to the first of these addresses that answers; its protocol. Each is given a
    moment before the next is tried beside it, or none when it fails (RFC 8305 5): one that is
    silent must not take the whole time. OSError of the last one when none answers."""
    if len(numbers) == 1:
        return await _to(factory, numbers[0], port)
    arrived = await _first(numbers, port)
    transport = arrived.transport
    if arrived.ended or transport.is_closing():
        transport.abort()
        raise ConnectionResetError(errno.ECONNRESET, "closed at once")
    protocol = factory()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if arrived.data:
        transport.resume_reading()
        protocol.data_received(arrived.data)
    return protocol


class _Arrived(asyncio.Protocol):
    """A connection of which nobody knows yet whether it is the one."""

    transport: Any
    data = b""
    ended = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True


async def _to(factory: Callable[[], Any], number: str, port: int) -> Any:
    """Connect to one address. TCP lets a connection to a port of this machine where nobody listens meet itself,
    when that port is the one that it was given for its own end (RFC 9293 3.5, simultaneous open)."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(factory, number, port, flags=socket.AI_NUMERICHOST)
    own = transport.get_extra_info("sockname")
    if own is not None and own == transport.get_extra_info("peername"):
        transport.abort()
        raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody but itself")
    return protocol


async def _first(numbers: Sequence[str], port: int) -> _Arrived:
    """A connection to one of them."""
    left = list(reversed(numbers))
    tries: set[asyncio.Task[_Arrived]] = set()
    failed: BaseException = OSError("no address")
    try:
        while left or tries:
            if left:
                tries.add(asyncio.create_task(_to(_Arrived, left.pop(), port)))
            done, tries = await asyncio.wait(
                tries, timeout=_STAGGER if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            arrived = [each.result() for each in done if each.exception() is None]
            for late in arrived[1:]:
                late.transport.abort()
            if arrived:
                return arrived[0]
            for each in done:
                failed = each.exception() or failed
        raise failed
    finally:
        for each in tries:
            each.cancel()
            each.add_done_callback(_drop)


def _drop(task: asyncio.Task[_Arrived]) -> None:
    """Nobody needs it any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().transport.abort()


async def _on_a_thread(host: str) -> list[Any]:
    """What getaddrinfo(3) says, on a thread that ends with the process if not before."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def tell(found: list[Any] | None, error: Exception | None) -> None:
        if answer.done():  # nobody waits for it any more
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def ask() -> None:
        found, error = None, None
        try:
            # AI_ADDRCONFIG is left out: a machine with a loopback alone still reaches itself.
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        except Exception as failed:  # a name that cannot be encoded is a ValueError
            error = failed
        try:
            loop.call_soon_threadsafe(tell, found, error)
        except RuntimeError:
            return  # the loop has ended meanwhile

    try:
        threading.Thread(target=ask, name=f"look-up of {host}", daemon=True).start()
    except RuntimeError as error:  # as many as the control group allows
        raise OSError(errno.ENOMEM, "no thread to look a name up on") from error
    return await answer


def is_number(host: str) -> bool:
    """Whether it is an address, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _number(family: int, sockaddr: Any) -> str:
    # With the zone of a link-local address, which only a network under `allow` lets through.
    if family == socket.AF_INET6 and sockaddr[3] and "%" not in sockaddr[0]:
        return f"{sockaddr[0]}%{sockaddr[3]}"
    return str(sockaddr[0])
