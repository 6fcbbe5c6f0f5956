"""The HTTP/2 side of the fault server, by python-h2: not the library that the sidecar speaks by."""

import asyncio
from collections.abc import Callable
from functools import partial

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from tests.support.fault_server import Connection, Fields, PeerGoneError, Request

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Http2Exchange:
    """One stream. `reading` False leaves the peer's flow-control window closed."""

    def __init__(self, side: "Http2Side", request: Request) -> None:
        self.side = side
        self.connection = side.connection
        self.server = side.connection.server
        self.closing = False
        self.reading = True
        self.whole = asyncio.Event()
        self.reset_code: int | None = None
        self._request = request
        self._counted = False

    async def head(self) -> Request:
        return self._request

    async def request(self) -> Request:
        await self.whole.wait()
        self._check()
        if not self._counted:
            self._counted = True
            self.server.requests.append(self._request)
            await self.server.tell()
        return self._request

    async def send_head(self, status: int = 200, headers: Fields | None = None, length: int | None = None) -> None:
        pairs = [(b":status", b"%d" % status), *(headers or [])]
        if length is not None:
            pairs.append((b"content-length", b"%d" % length))
        await self._headers(pairs, end=False)

    async def send_data(self, data: bytes, end: bool = False) -> None:
        stream, h2 = self._request.stream, self.side.h2
        while data:
            await self.side.window(lambda: h2.local_flow_control_window(stream) > 0, self)
            size = min(len(data), h2.local_flow_control_window(stream), h2.max_outbound_frame_size)
            part, data = data[:size], data[size:]
            self._do(partial(h2.send_data, stream, part))
            await self.side.flush()
        if end:
            self._do(lambda: h2.end_stream(stream))
            await self.side.flush()

    async def send_trailers(self, trailers: Fields) -> None:
        await self._headers(trailers, end=True)

    async def send_informational(self, status: int, headers: Fields) -> None:
        """A 1xx head before the final one."""
        await self._headers([(b":status", b"%d" % status), *headers], end=False)

    async def send_trailers_only(self, headers: Fields) -> None:
        """One HEADERS frame with END_STREAM, as gRPC's trailers-only answer."""
        await self._headers([(b":status", b"200"), *headers], end=True)

    def abandon(self, code: int) -> None:
        self._do(lambda: self.side.h2.reset_stream(self._request.stream, code))
        self.side.send()

    def goaway(self, last_stream: int, code: int = 0) -> None:
        """GOAWAY, and go on: the streams up to `last_stream` may finish (RFC 9113 6.8).

        Written by hand, since python-h2 takes a GOAWAY for the end of the connection.
        """
        self.side.send()
        self.connection.write(GoAwayFrame(0, last_stream_id=last_stream, error_code=code).serialize())

    async def _headers(self, pairs: Fields, end: bool) -> None:
        self._do(lambda: self.side.h2.send_headers(self._request.stream, pairs, end_stream=end))
        await self.side.flush()

    def _do(self, action: Callable[[], object]) -> None:
        self._check()
        try:
            action()
        except ProtocolError as error:
            # The stream or the connection was ended by the peer in the meantime.
            if self.reset_code is not None or self.side.ended:
                raise PeerGoneError(str(error)) from error
            raise

    def _check(self) -> None:
        if self.reset_code is not None:
            raise PeerGoneError(f"the peer reset the stream with code {self.reset_code}")
        if self.side.ended:
            raise PeerGoneError("the peer closed")


class Http2Side:
    """One HTTP/2 connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ended = False
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.streams: dict[int, Http2Exchange] = {}
        self._moved = asyncio.Event()

    def send(self) -> None:
        """Hand what python-h2 has to say to the socket."""
        if data := self.h2.data_to_send():
            self.connection.write(data)

    async def flush(self) -> None:
        """`send`, and wait until the peer takes it."""
        self.send()
        await self.connection.flush()

    async def window(self, ready: Callable[[], bool], exchange: Http2Exchange) -> None:
        """Wait for something that only the peer's frames can change."""
        while True:
            exchange._check()
            if ready():
                return
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Until either side ends the connection."""
        connection = self.connection
        self.h2.local_settings.update({SettingCodes(code): value for code, value in connection.server.settings.items()})
        self.h2.initiate_connection()
        self.send()
        try:
            while not connection.closed:
                data = bytes(connection.buffer)
                connection.buffer.clear()
                for event in self.h2.receive_data(data):
                    await self._on(event)
                self.send()
                if not await connection.fill():
                    return
        finally:
            self.ended = True
            self._moved.set()
            for exchange in self.streams.values():
                exchange.whole.set()

    async def _on(self, event: Event) -> None:
        server = self.connection.server
        if isinstance(event, RequestReceived):
            exchange = Http2Exchange(self, self._request(event))
            self.streams[exchange._request.stream] = exchange
            self.connection.requests += 1
            server.heads.append(exchange._request)
            server.spawn(server.play(exchange, server.next_step()))
            await server.tell()
        elif isinstance(event, DataReceived):
            exchange = self._of(event)
            exchange._request.body += event.data
            if exchange.reading and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        elif isinstance(event, TrailersReceived):
            self._of(event)._request.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            self._of(event).whole.set()
        elif isinstance(event, StreamReset):
            exchange = self._of(event)
            exchange.reset_code = int(event.error_code or 0)
            exchange.whole.set()
            self._moved.set()
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            self._moved.set()

    def _of(self, event: DataReceived | TrailersReceived | StreamEnded | StreamReset) -> Http2Exchange:
        return self.streams[event.stream_id or 0]

    def _request(self, event: RequestReceived) -> Request:
        pairs = [(bytes(name), bytes(value)) for name, value in event.headers or []]
        pseudo = {name: value.decode("latin-1") for name, value in pairs if name.startswith(b":")}
        return Request(
            pseudo[b":method"],
            pseudo.get(b":path", ""),
            pseudo.get(b":authority", ""),
            [pair for pair in pairs if not pair[0].startswith(b":")],
            self.connection.number,
            event.stream_id or 0,
        )


async def serve_h2(connection: Connection) -> None:
    """Streams side by side, each by the server's next step in the order of their heads."""
    await Http2Side(connection).run()
