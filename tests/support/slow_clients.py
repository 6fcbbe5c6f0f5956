"""Clients that do what slowhttptest does: send a head, a body, or read an answer, hardly."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

HEADER = "header"
BODY = "body"
READ = "read"
SILENT = "silent"
PREFACE = "preface"
MODES = (HEADER, BODY, READ, SILENT, PREFACE)

_HEAD = b"%b %b HTTP/1.1\r\nhost: a\r\n"


class SlowClient:
    """One attacker. `said` is what it was told, `gone` is set once its connection has ended."""

    def __init__(self, mode: str, path: bytes, every: float) -> None:
        self.mode = mode
        self.path = path
        self.every = every
        self.said = b""
        self.gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, port: int) -> None:
        """Connect and begin."""
        sock = socket.socket()
        if self.mode == READ:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        self._task = asyncio.create_task(self._run(sock))

    async def stop(self) -> None:
        """Give up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, sock: socket.socket) -> None:
        acts: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
            HEADER: self._header,
            BODY: self._body,
            READ: self._read,
            SILENT: self._listen,
            PREFACE: self._preface,
        }
        try:
            await acts[self.mode](sock)
        except OSError:
            pass  # cut off
        finally:
            sock.close()
            self.gone.set()

    async def _header(self, sock: socket.socket) -> None:
        await self._dribble(sock, _HEAD % (b"GET", self.path), b"x-a: b\r\n")

    async def _body(self, sock: socket.socket) -> None:
        await self._dribble(sock, _HEAD % (b"POST", self.path) + b"content-length: 4096\r\n\r\n", b"x")

    async def _preface(self, sock: socket.socket) -> None:
        await self._send(sock, b"PR")
        await self._listen(sock)

    async def _dribble(self, sock: socket.socket, first: bytes, then: bytes) -> None:
        listening = asyncio.create_task(self._listen(sock))
        try:
            await self._send(sock, first)
            while not listening.done():
                await asyncio.wait([listening], timeout=self.every)
                await self._send(sock, then)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(sock, 4096):
            self.said += data

    async def _read(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await self._send(sock, _HEAD % (b"GET", self.path) + b"\r\n")
        while data := await loop.sock_recv(sock, 1):
            self.said += data
            await asyncio.sleep(self.every)

    async def _send(self, sock: socket.socket, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, data)
