"""Accepting connections on sockets that listen already.

An own loop, because both event loops' servers fail where it matters: out of files asyncio
logs an error for each place in the backlog, and libuv takes every last file and then closes
clients without a word; of any other error it asks again at once, for ever.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from sidecar.policy.places import Places

# So many connections are accepted in one go at most.
_BURST = 16
# accept(2): errors of the connection that was to be accepted, which is gone.
_PASSING = frozenset(
    (
        errno.ECONNABORTED,
        errno.EINTR,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    )
)
_PAUSES = (0.05, 1.0)  # the first, and the longest of a row


class _Accepted(socket.socket):
    """Tells once that its file is given back, by whichever event loop."""

    __slots__ = ("_places",)

    _places: Places | None

    def counted(self, places: Places) -> None:
        self._places = places
        places.clients += 1
        places.on_client()

    def detach(self) -> int:
        self._give_back()
        return super().detach()

    def close(self) -> None:
        self._give_back()
        super().close()

    def _give_back(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.left()


class Acceptor:
    """Accepts on one listening socket; `protocol()` is what each connection meets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        places: Places,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._places = places
        self._protocol = protocol
        self._burst = 1
        self._pause = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._reading = False
        self._closed = False

    def start(self) -> None:
        """Accept from now on."""
        self._socket.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more. The socket stays open."""
        self._closed = True
        self._stop()
        if self._retry is not None:
            self._retry.cancel()

    def last_call(self, most: int) -> None:
        """Let in who is in the queue already, as far as there are files."""
        for _ in range(most):
            try:
                self._accept()
            except OSError as error:
                if error.errno not in _PASSING:
                    return

    def _resume(self) -> None:
        self._retry = None
        if not self._closed and not self._reading:
            self._reading = True
            self._loop.add_reader(self._socket, self._on_readable)

    def _stop(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def _on_readable(self) -> None:
        """Somebody waits. One at a time, as long as it is one: a second question would
        mostly be in vain."""
        for _ in range(self._burst):
            if not self._places.may_refuse:
                # The rest waits in the backlog until there is a file to say no with.
                self._stop()
                self._places.when_one_left(self._resume)
                return
            try:
                self._accept()
            except (BlockingIOError, InterruptedError):
                self._burst = 1
                return
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                self._places.failed(error)
                self._wait()
                return
            except Exception:  # a bug, which would be met again at once, and again
                self._wait()
                raise
        self._pause = 0.0
        self._burst = min(_BURST, self._burst * 2)

    def _wait(self) -> None:
        """Out of files: asked again later, or each of us would do nothing but ask."""
        first, longest = _PAUSES
        self._pause = min(longest, self._pause * 2) if self._pause else first
        self._stop()
        self._retry = self._loop.call_later(self._pause, self._resume)

    def _accept(self) -> None:
        listening = self._socket
        descriptor, _ = listening._accept()  # type: ignore[attr-defined]  # without asking for what we know
        sock = _Accepted(listening.family, listening.type, 0, descriptor)
        sock.counted(self._places)
        coroutine: Any = self._loop.connect_accepted_socket(self._protocol, sock)
        # Driven by hand: the protocol hears of its connection in the next iteration, and
        # a Task would only wait for that.
        try:
            waiter = coroutine.send(None)
        except StopIteration:
            return
        except BaseException:
            sock.close()
            raise
        waiter.add_done_callback(partial(_finish, coroutine))


def _finish(coroutine: Any, waiter: Any) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        pass
