"""A small and fast HTTP/1.1 and HTTP/2 service, as a process of its own: for loads at which
a framework would be what is measured, and that is back within a tenth of a second.

    python -m tests.support.swift_service --port 0 [--ledger FILE] [--http2]

The path says what a request gets:

- `/ok`: 200 and a few bytes; `/echo`: the body back
- `/fail`: 503; `/reset`: the connection is cut (HTTP/2: RST_STREAM) without an answer
- `/partial`: the head of an answer and a part of its body, then the same
- `/slow`: `/ok` after 20 ms; `/stall`: nothing, ever
- `/ledger`: `x-request-id` is written to FILE and fsynced before it is answered;
  `/ledger/late`: answered 20 ms after that

Both protocols answer alike. With --http2 it speaks HTTP/2 with prior knowledge alone, and gRPC
to whoever asks for it (content-type): METHODS says which path a method is; a status but 200 is
UNAVAILABLE.
"""

import argparse
import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httptools
import ngh2

from tests.support.processes import announce

OK = b"ok " * 16
METHODS = {
    b"/swift.Ledger/Read": b"/ok",
    b"/swift.Ledger/ReadLate": b"/slow",
    b"/swift.Ledger/Write": b"/ledger",
    b"/swift.Ledger/WriteLate": b"/ledger/late",
}
_GRPC = b"application/grpc"
SLOW_SECONDS = 0.02
# How the answer to a request looks: a status and a body, None for no answer, or a part of one.
Reply = Callable[[int, bytes], None]


class Ledger:
    """One line for each request that was carried out. What `write` has returned from survives SIGKILL."""

    def __init__(self, path: str | None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if path else -1

    def write(self, identity: bytes) -> None:
        """Append and fsync."""
        os.write(self._file, identity + b"\n")
        os.fsync(self._file)


class Exchange:
    """One request; what to do with it is the same in both protocols."""

    def __init__(self, ledger: Ledger, path: bytes, identity: bytes, grpc: bool = False) -> None:
        self._ledger = ledger
        self.path = METHODS.get(path, path)
        self.identity = identity
        self.grpc = grpc
        self.body: list[bytes] = []

    def carry_out(self, reply: Reply, cut: Callable[[], None], part: Callable[[], None]) -> None:
        """Exactly one of the three is called, now, later or never."""
        path = self.path
        if path == b"/ok":
            reply(200, OK)
        elif path == b"/echo":
            reply(200, b"".join(self.body))
        elif path == b"/fail":
            reply(503, b"failed on purpose")
        elif path == b"/reset":
            cut()
        elif path == b"/partial":
            part()
        elif path == b"/slow":
            asyncio.get_running_loop().call_later(SLOW_SECONDS, reply, 200, OK)
        elif path == b"/ledger":
            self._ledger.write(self.identity)
            reply(200, self.identity)
        elif path == b"/ledger/late":
            self._ledger.write(self.identity)
            asyncio.get_running_loop().call_later(SLOW_SECONDS, reply, 200, self.identity)
        elif path != b"/stall":
            reply(404, b"no such path")


class Http1(asyncio.Protocol):
    """One connection. Requests that come ahead are answered in order, for each is carried
    out at once, except behind a slow one: proxies do not send ahead."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._path = self._identity = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._path, self._identity, self._body = url, b"", []

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._identity = value

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        exchange = Exchange(self._ledger, self._path, self._identity)
        exchange.body = self._body
        exchange.carry_out(self._reply, self._transport.abort, self._part)

    def _reply(self, status: int, body: bytes) -> None:
        self._transport.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    def _part(self) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart")
        self._transport.close()


class Http2(asyncio.Protocol):
    """One connection, many streams."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._h2 = ngh2.Connection(ngh2.Role.SERVER)
        self._transport: Any = None
        self._exchanges: dict[int, Exchange] = {}

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._h2.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: 1000})
        self._write()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        try:
            self._h2.receive_data(data)
        except ngh2.ConnectionStateError:
            return  # we have said GOAWAY: too many were cancelled for ngh2's liking
        event: Any  # told apart by their types
        for event in self._h2.events():
            kind = type(event)
            if kind is ngh2.RequestReceived:
                fields = dict(event.headers)
                path, identity = fields[b":path"], fields.get(b"x-request-id", b"")
                grpc = fields.get(b"content-type") == _GRPC
                self._exchanges[event.stream_id] = Exchange(self._ledger, path, identity, grpc)
                if event.end_stream:
                    self._carry_out(event.stream_id)
            elif kind is ngh2.DataReceived:
                self._exchanges[event.stream_id].body.append(event.data)
                if event.end_stream:
                    self._carry_out(event.stream_id)
            elif kind is ngh2.StreamReset:
                self._exchanges.pop(event.stream_id, None)
        self._write()

    def _carry_out(self, stream: int) -> None:
        self._exchanges[stream].carry_out(
            lambda status, body: self._reply(stream, status, body),
            lambda: self._cut(stream),
            lambda: self._part(stream),
        )

    def _reply(self, stream: int, status: int, body: bytes) -> None:
        exchange = self._exchanges.pop(stream, None)
        if exchange is None or self._transport is None:
            return  # it was cancelled
        # Cancelled in the read that brought it, or the connection with it.
        with suppress(ngh2.StreamUnavailableError, ngh2.ConnectionStateError):
            if exchange.grpc:
                self._h2.send_response(stream, [(b":status", b"200"), (b"content-type", _GRPC)])
                self._h2.send_data(stream, b"\x00" + len(body).to_bytes(4, "big") + body)
                self._h2.send_trailers(stream, [(b"grpc-status", b"0" if status == 200 else b"14")])
            else:
                self._h2.send_response(stream, [(b":status", b"%d" % status), (b"content-length", b"%d" % len(body))])
                self._h2.send_data(stream, body, end_stream=True)
        self._write()

    def _cut(self, stream: int) -> None:
        if self._exchanges.pop(stream, None) is not None:
            with suppress(ngh2.StreamUnavailableError):
                self._h2.reset_stream(stream, int(ngh2.ErrorCode.INTERNAL_ERROR))

    def _part(self, stream: int) -> None:
        if stream in self._exchanges:
            with suppress(ngh2.StreamUnavailableError):
                self._h2.send_response(stream, [(b":status", b"200")])
                self._h2.send_data(stream, b"part")
            self._write()
            self._cut(stream)

    def _write(self) -> None:
        if self._transport is not None and (data := self._h2.data_to_send()):
            self._transport.write(bytes(data))


async def _serve(port: int, ledger: Ledger, protocol: type[Http1] | type[Http2]) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: protocol(ledger), "127.0.0.1", port, backlog=1024)
    announce(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ledger")
    parser.add_argument("--http2", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, Ledger(arguments.ledger), Http2 if arguments.http2 else Http1))
