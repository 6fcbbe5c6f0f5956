"""Zero-downtime upgrade: a new process gets the listening sockets of the one before it.

Both hold the same sockets for a moment, so that no connection in their queues is lost
(docs/adr/0028). Four messages, each a JSON object, over a unix socket that belongs to the
predecessor:

    successor    {"protocol": 1, "version": "0.2.0"}
    predecessor  {"protocol": 1, "version": "0.1.0", "sockets": [[name, bind], ...], "more": false}
                 with the sockets, the first of which is the one that is spoken over; or
                 {"refused": "why", "protocol": 1, "version": "0.1.0"}
    successor    {"ready": true}        everything that can fail has been done, nothing is accepted yet
    predecessor  {"go": true}
    successor    {"serving": ["name"]}  it accepts; which of the sockets it took

Until the last message the predecessor serves as if nothing were; whatever happens before
it, a crash of the successor above all, changes nothing. A predecessor that ends says
{"ending": true} to one that is not ready yet: nobody else would accept on these sockets.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from sidecar.lifecycle.channel import MOST_FILES, Channel, ChannelError, close_all, connect, listen
from sidecar.lifecycle.sockets import Offered, listening_socket
from sidecar.telemetry.logs import get_logger

PROTOCOL: Final = 1
# An answer that needs no work takes no longer.
_ANSWER_SECONDS: Final = 10.0
# A successor may have to wait for its clusters (`wait_for`); another one waits for it.
_READY_SECONDS: Final = 120.0
# A predecessor that ends waits no longer for a successor to go on without it.
_ENDING_SECONDS: Final = 1.0
# Who hangs up before we have all is most likely gone; one that does so again and again is not.
_ASKS: Final = 5
_ASK_AGAIN_SECONDS: Final = 0.05


class TakeoverError(Exception):
    """The sockets cannot be had; the text says why."""


class _GoneError(ChannelError):
    """It was there, and hung up before it had given anything."""


class Successor:
    """The new process's side. `claim` makes one."""

    def __init__(self, channel: Channel, pid: int, offered: list[Offered], own: socket.socket) -> None:
        self._channel = channel
        self.pid = pid
        self.offered = offered
        self.own = own  # the socket of the takeover itself

    async def ending(self) -> None:
        """Returns when the predecessor serves no longer, or has said that it will not, or no to us."""
        await self._channel.readable()

    async def may_go(self) -> bool:
        """Say that all is ready; whether the predecessor is there to be relieved. TakeoverError
        when it does not want to be any more."""
        try:
            with contextlib.suppress(OSError):  # it has hung up; why is still to be read
                await self._channel.send({"ready": True})
            message = await self._answer()
        except (OSError, TimeoutError):
            message = None
        except ChannelError as error:
            raise TakeoverError(f"process {self.pid} does not hand over: {error}") from None
        if message is None:
            return False  # it is gone, and its sockets are ours
        if "go" not in message:
            raise TakeoverError(
                f"process {self.pid} does not hand over: {message.get('refused', 'it does not say why')}"
            )
        return True

    async def _answer(self) -> dict[str, Any] | None:
        while (answer := await self._channel.receive(_ANSWER_SECONDS)) is not None:
            message, files = answer
            close_all(files)
            if "ending" not in message:
                return message
        return None

    async def serving(self, taken: Sequence[str]) -> None:
        """Say that everything is served here now."""
        with contextlib.suppress(OSError):
            await self._channel.send({"serving": list(taken)})
        self._channel.close()

    def close(self) -> None:
        """Give up: the predecessor goes on."""
        self._channel.close()


async def claim(path: str, version: str) -> Successor | None:
    """The sockets of the process that listens at `path`; None when there is none, or it ends
    before it has given them. TakeoverError when it does not give them."""
    for ask in range(1, _ASKS + 1):
        try:
            return await _ask(path, version)
        except _GoneError as error:
            if ask == _ASKS:
                raise TakeoverError(f"cannot take over by {path}: {error}") from None
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
    return None


async def _ask(path: str, version: str) -> Successor | None:
    try:
        channel = connect(path)
    except OSError as error:
        raise TakeoverError(f"cannot take over by {path}: {error.strerror or error}") from None
    if channel is None:
        return None
    offered: list[Offered] = []
    pid = 0
    try:
        pid = channel.check_peer()
        await channel.send({"protocol": PROTOCOL, "version": version})
        more = True
        while more:
            more = await _receive_sockets(channel, pid, offered)
        return Successor(channel, pid, offered[1:], offered[0].socket)
    except (ChannelError, OSError, TimeoutError, LookupError, TypeError, ValueError) as error:
        channel.close()
        for each in offered:
            each.socket.close()
        if isinstance(error, (_GoneError, BrokenPipeError, ConnectionResetError)):
            raise _GoneError(f"process {pid} hung up") from None
        reason = "it does not answer" if isinstance(error, TimeoutError) else str(error)
        raise TakeoverError(f"cannot take over by {path}: {reason}") from None


async def _receive_sockets(channel: Channel, pid: int, offered: list[Offered]) -> bool:
    """One message's sockets; whether more follow."""
    answer = await channel.receive(_ANSWER_SECONDS)
    if answer is None:
        raise _GoneError
    message, files = answer
    if "refused" in message or message.get("protocol") != PROTOCOL:
        close_all(files)
        theirs = f"version {message.get('version')}, protocol {message.get('protocol')}"
        reason = message.get("refused", f"it speaks another protocol than {PROTOCOL}")
        raise ChannelError(f"process {pid} ({theirs}) refuses: {reason}")
    sockets = _sockets_of(files)
    try:
        offered += [Offered(name, bind, sock) for (name, bind), sock in zip(message["sockets"], sockets, strict=True)]
    except (LookupError, TypeError, ValueError):
        for each in sockets:
            each.close()
        raise
    return bool(message["more"])


def _sockets_of(files: Sequence[int]) -> list[socket.socket]:
    """The files as sockets; when one of them is none, an OSError, and all are closed."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < len(files):
            sockets.append(listening_socket(files[len(sockets)]))
    except OSError:
        close_all(files[len(sockets) :])
        for made in sockets:
            made.close()
        raise
    return sockets


class Predecessor:
    """The running process's side: hands its sockets to whoever asks and may.

    `offers()` names them; `on_event(state, fields)` hears of each step. `on_handed_over(pid,
    names)` is called once, when a successor serves: which of the sockets it took.
    """

    def __init__(
        self,
        version: str,
        offers: Callable[[], list[Offered]],
        on_event: Callable[[str, dict[str, Any]], None],
        on_handed_over: Callable[[int, Sequence[str]], None],
    ) -> None:
        self._version = version
        self._offers = offers
        self._on_event = on_event
        self._on_handed_over = on_handed_over
        self._socket: socket.socket | None = None
        self._path = ""
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._asking: Channel | None = None  # who is taking over
        self._waits = False  # that one is not ready yet
        self._ending = False
        self._handed_over = False

    def open(self, path: str, own: socket.socket | None = None) -> None:
        """Listen at `path`, or on a socket that the process before us listened on. OSError."""
        self._path = path
        self._socket = listen(path) if own is None else own
        self._socket.listen(8)  # once more: it is our number that SO_PEERCRED gives from now on
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._socket))

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            task = loop.create_task(self._serve(Channel(sock)))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, channel: Channel) -> None:
        pid = 0
        try:
            pid = channel.check_peer()
            await self._hand_over(channel, pid)
        except (ChannelError, OSError, TimeoutError) as error:
            reason = "it took too long" if isinstance(error, TimeoutError) else str(error)
            self._on_event("failed", {"pid": pid, "reason": reason})
            with contextlib.suppress(OSError):
                await channel.send(self._refusal(reason))
        except Exception as error:  # whoever asks must not end us
            get_logger().error("takeover_failed_by_a_bug", exc_info=error)
        finally:
            channel.close()

    async def _hand_over(self, channel: Channel, pid: int) -> None:
        greeting = await channel.receive(_ANSWER_SECONDS)
        if greeting is None:
            return  # it only looked whether somebody is here
        message, files = greeting
        close_all(files)
        theirs = message.get("version")
        if message.get("protocol") != PROTOCOL:
            raise ChannelError(f"version {theirs} speaks protocol {message.get('protocol')}, not {PROTOCOL}")
        if self._asking is not None or self._handed_over:
            raise ChannelError("another process is taking over")
        self._asking = channel
        try:
            self._on_event("asked", {"pid": pid, "version": theirs})
            await self._send_sockets(channel)
            if self._ending:
                await channel.send({"ending": True})
            self._waits = True
            await _expect(channel, "ready", _READY_SECONDS)
            self._waits = False
            await channel.send({"go": True})
            serving = await _expect(channel, "serving", _ANSWER_SECONDS)
            if not isinstance(serving, list):
                raise ChannelError(f"it serves {serving}, which are no names")
        finally:
            self._asking, self._waits = None, False
        self._handed_over = True
        self._on_event("handed_over", {"pid": pid, "version": theirs})
        self._on_handed_over(pid, [str(name) for name in serving])

    async def _send_sockets(self, channel: Channel) -> None:
        assert self._socket is not None
        # The same socket, not its path: there is no moment at which nobody listens there.
        offers = [Offered("", self._path, self._socket), *self._offers()]
        for start in range(0, len(offers), MOST_FILES):
            part = offers[start : start + MOST_FILES]
            await channel.send(
                {
                    "protocol": PROTOCOL,
                    "version": self._version,
                    "sockets": [[each.name, each.bind] for each in part],
                    "more": start + MOST_FILES < len(offers),
                },
                [each.socket.fileno() for each in part],
            )

    def _refusal(self, reason: str) -> dict[str, Any]:
        return {"refused": reason, "protocol": PROTOCOL, "version": self._version}

    async def end(self) -> None:
        """This process ends: who is taking over has to do so now, and gets a moment for it."""
        self._ending = True
        if self._asking is not None:
            # Behind `go` nobody would read it, and what is unread when the successor hangs up
            # destroys its own last message (ECONNRESET).
            if self._waits:
                with contextlib.suppress(OSError):
                    await self._asking.send({"ending": True})
            await asyncio.wait(self._serving, timeout=_ENDING_SECONDS)

    async def close(self) -> None:
        """Ask for nothing any more. The path goes, unless it is a successor's now."""
        theirs = self._handed_over or self._asking is not None
        tasks = [*self._serving, *([self._accepting] if self._accepting is not None else [])]
        tasks = [task for task in tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            if not theirs:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)


async def _expect(channel: Channel, word: str, within: float) -> Any:
    answer = await channel.receive(within)
    if answer is None:
        raise ChannelError(f"it ended before it was {word}")
    message, files = answer
    close_all(files)
    if word not in message:
        raise ChannelError(f"it said {message} in place of {word}")
    return message[word]
