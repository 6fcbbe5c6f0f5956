"""Messages between two processes of one user: JSON and open files over a unix socket.

SOCK_SEQPACKET keeps messages apart; the files travel as SCM_RIGHTS (unix(7)). Linux.
"""

import array
import asyncio
import errno
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

# The kernel passes at most 253 files with one message (SCM_MAX_FD).
MOST_FILES: Final = 200
_MOST_BYTES: Final = 64 * 1024
_CONNECT_SECONDS: Final = 5.0
_UCRED: Final = struct.Struct("iII")  # pid, uid, gid


class ChannelError(Exception):
    """The other side is nobody to talk to, or said something strange."""


class Channel:
    """One connection. Messages are JSON objects; what cannot be read is a ChannelError."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()

    def peer(self) -> tuple[int, int]:
        """Process and user at the other end, as the kernel knows them."""
        pid, uid, _ = _UCRED.unpack(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return pid, uid

    def check_peer(self) -> int:
        """Its process; ChannelError unless it is of our user, or root's."""
        pid, uid = self.peer()
        if uid not in (os.geteuid(), 0):
            raise ChannelError(f"process {pid} is of user {uid}: only our own user and root may")
        return pid

    async def send(self, message: dict[str, Any], files: Sequence[int] = ()) -> None:
        """Send one message; OSError when nobody is there any more."""
        data = json.dumps(message).encode()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        while True:
            try:
                self._socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def receive(self, within: float) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its files, None at the end of the connection.
        TimeoutError after so many seconds."""
        async with asyncio.timeout(within):
            while True:
                try:
                    data, ancillary, flags, _ = self._socket.recvmsg(
                        _MOST_BYTES, socket.CMSG_SPACE(MOST_FILES * 4), socket.MSG_CMSG_CLOEXEC
                    )
                    break
                except BlockingIOError:
                    await self.readable()
                except ConnectionResetError:
                    return None
        files = _files(ancillary)
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ChannelError("a message is too long")
            if not data:
                close_all(files)  # a message without a word may hold some
                return None
            message = json.loads(data)
            if not isinstance(message, dict):
                raise ChannelError("a message is no object")
        except (ValueError, RecursionError):  # the latter is JSON of a depth that nobody sends
            close_all(files)
            raise ChannelError("a message is no JSON") from None
        except ChannelError:
            close_all(files)
            raise
        return message, files

    async def readable(self) -> None:
        """Wait for a message, or for the end of the connection."""
        await self._ready(self._loop.add_reader, self._loop.remove_reader)

    async def _ready(self, add: Callable[..., Any], remove: Callable[..., Any]) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        add(self._socket, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            remove(self._socket)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def connect(path: str) -> Channel | None:
    """The channel to whoever listens at `path`, None when nobody does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(_CONNECT_SECONDS)
    try:
        sock.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except OSError:
        sock.close()
        raise
    return Channel(sock)


def listen(path: str) -> socket.socket:
    """A listening socket at `path` for our own user alone. What a process that is gone has
    left there is removed; OSError when somebody listens, or the path cannot be had."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # Linux makes the file with the socket's mode: nobody else can connect in between.
        os.fchmod(sock.fileno(), 0o600)
        if Path(path).is_socket() and sock.connect_ex(path) == errno.ECONNREFUSED:
            Path(path).unlink(missing_ok=True)
        sock.bind(path)
        sock.listen(8)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def close_all(files: Sequence[int]) -> None:
    """Files that nobody wants."""
    for each in files:
        os.close(each)


def _files(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()
