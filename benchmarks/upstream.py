"""A tiny service to put behind the proxy: HTTP/1.1 and HTTP/2 on two free ports.

It prints one JSON line with its ports, and ends with its standard input. It answers
`/1m` with 1 MiB, anything else with 114 bytes; on HTTP/2 with a gRPC status. It is
no HTTP server: it takes what wrk and h2load send, and nothing else.
"""

import asyncio
import json
import sys
from typing import Any

import ngh2

_SMALL = b"x" * 114
_LARGE = b"x" * (1 << 20)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
_ANSWERS = {False: _HEAD % len(_SMALL) + _SMALL, True: _HEAD % len(_LARGE) + _LARGE}
_FIELDS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_MESSAGE = b"\0" + (32).to_bytes(4, "big") + b"m" * 32


class Http1(asyncio.Protocol):
    """An answer for each empty line."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Requests without bodies."""
        *heads, self._data = (self._data + data).split(b"\r\n\r\n")
        for head in heads:
            self._transport.write(_ANSWERS[head.startswith(b"GET /1m ")])


class Http2(asyncio.Protocol):
    """An answer with one message and a gRPC status for each request."""

    def __init__(self) -> None:
        self._h2 = ngh2.Connection(ngh2.Role.SERVER)
        self._h2.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: 1000})
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        self._transport = transport
        transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Frames."""
        try:
            self._h2.receive_data(data)
            for event in self._h2.events():
                if type(event) is ngh2.RequestReceived:
                    self._answer(event.stream_id)
            self._transport.write(self._h2.data_to_send())
        except ngh2.NGH2Error:
            self._transport.abort()

    def _answer(self, stream_id: int) -> None:
        self._h2.send_response(stream_id, _FIELDS)
        self._h2.send_data(stream_id, _MESSAGE)
        self._h2.send_trailers(stream_id, [(b"grpc-status", b"0")])


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(kind, "127.0.0.1", 0) for kind in (Http1, Http2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    print(json.dumps(dict(zip(("http1", "http2"), ports, strict=True))), flush=True)
    # Whoever started us holds the other end: when it is gone, so are we.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve())
