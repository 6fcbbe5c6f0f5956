"""HTTP/1.1 and HTTP/2 clients that cost little, for loads of many requests.

    async with Http1Client(host, port) as client:
        status, body = await client.request(b"GET", b"/ok")

One request at a time on HTTP/1.1, many at once on HTTP/2. A connection that is gone is
opened again by the next request; one that breaks raises ConnectionError. A request that is
cancelled (`asyncio.timeout`, a Task's `cancel`) leaves as a client does: HTTP/1.1 closes the
connection, HTTP/2 resets the stream.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httptools
import ngh2

Fields = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; trailers are among the fields."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def said(self) -> str:
        """The status, of gRPC its own, with the sidecar's word for it where it has one."""
        reason = self.fields.get(b"x-sidecar-error", b"").decode()
        code = self.fields.get(b"grpc-status")
        status = str(self.status) if code is None else f"grpc {code.decode()}"
        return f"{status} {reason}".strip()


class Http1Client(asyncio.Protocol):
    """One connection, and the next one when it is gone. `dialled` counts them."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._transport: Any = None
        self._future: asyncio.Future[Answer] | None = None
        self._parser: Any = None
        self._fields: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self.dialled = 0

    async def __aenter__(self) -> "Http1Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut the connection; the next request opens another."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def request(self, method: bytes, path: bytes, body: bytes = b"", fields: Fields = ()) -> Answer:
        """ConnectionError when the connection breaks before the answer is complete."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            # A protocol of its own: the late end of an old connection must not be taken for that of a new one.
            await loop.create_connection(lambda: _Of(self), self._host, self._port)
            self.dialled += 1
        self._future = future = loop.create_future()
        lines = [b"%b %b HTTP/1.1\r\nHost: test\r\n" % (method, path)]
        lines += [b"%b: %b\r\n" % field for field in fields]
        if body or method not in (b"GET", b"HEAD", b"DELETE", b"OPTIONS"):
            lines.append(b"Content-Length: %d\r\n" % len(body))
        self._transport.write(b"".join((*lines, b"\r\n", body)))
        try:
            return await future
        except asyncio.CancelledError:
            self.close()
            raise

    def opened(self, transport: Any) -> None:
        """A connection is there."""
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def fed(self, transport: Any, data: bytes) -> None:
        """Bytes of the present connection."""
        if transport is not self._transport:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.lost(transport, error)
            transport.abort()

    def lost(self, transport: Any, error: Exception | None) -> None:
        """A connection is gone."""
        if transport is not self._transport:
            return
        self._transport = None
        if self._future is not None and not self._future.done():
            self._future.set_exception(ConnectionResetError(f"closed: {error}"))

    # From the parser.

    def on_message_begin(self) -> None:
        self._fields, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        if not self._parser.should_keep_alive():
            self.close()
        if self._future is not None and not self._future.done():
            self._future.set_result(Answer(status, self._fields, b"".join(self._body)))


class _Of(asyncio.Protocol):
    """One connection of an Http1Client."""

    def __init__(self, client: Http1Client) -> None:
        self._client = client
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._client.opened(transport)

    def data_received(self, data: bytes) -> None:
        self._client.fed(self._transport, data)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.lost(self._transport, error)


class Http2Client:
    """One connection with many streams, and the next one when it is gone or goes away."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._connection: _Http2 | None = None
        self._opening = asyncio.Lock()
        self.dialled = 0

    async def __aenter__(self) -> "Http2Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def call(self, path: bytes, message: bytes = b"", fields: Fields = ()) -> Answer:
        """A gRPC call. ConnectionError as below."""
        body = b"\x00" + len(message).to_bytes(4, "big") + message
        return await self.request(
            b"POST", path, body, [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *fields]
        )

    async def request(self, method: bytes, path: bytes, body: bytes = b"", fields: Fields = ()) -> Answer:
        """ConnectionError when the stream is reset or the connection breaks."""
        async with self._opening:
            connection = self._connection
            if connection is None or not connection.usable:
                _, connection = await asyncio.get_running_loop().create_connection(_Http2, self._host, self._port)
                self._connection = connection
                self.dialled += 1
        head = [(b":method", method), (b":scheme", b"http"), (b":authority", b"test"), (b":path", path), *fields]
        stream, future = connection.send(head, body)
        try:
            return await future
        except asyncio.CancelledError:
            connection.cancel(stream)
            raise


class _Http2(asyncio.Protocol):
    def __init__(self) -> None:
        self._h2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(peer_max_concurrent_streams=1000))
        self._transport: Any = None
        self._futures: dict[int, asyncio.Future[Answer]] = {}
        self._heads: dict[int, dict[bytes, bytes]] = {}
        self._bodies: dict[int, list[bytes]] = {}
        self._scheduled = False
        self.usable = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._h2.initiate_connection()
        self._schedule()

    def send(self, head: Fields, body: bytes) -> tuple[int, "asyncio.Future[Answer]"]:
        """Number and answer-to-be of a new stream."""
        stream = self._h2.send_request(head, end_stream=not body)
        if body:
            self._h2.send_data(stream, body, end_stream=True)
        future = self._futures[stream] = asyncio.get_running_loop().create_future()
        self._bodies[stream] = []
        self._schedule()
        return stream, future

    def cancel(self, stream: int) -> None:
        """RST_STREAM."""
        if self._futures.pop(stream, None) is not None and self._transport is not None:
            self._h2.reset_stream(stream, int(ngh2.ErrorCode.CANCEL))
            self._schedule()

    def abort(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._h2.receive_data(data)
        event: Any  # told apart by their types
        for event in self._h2.events():
            kind = type(event)
            if kind is ngh2.ResponseReceived:
                self._heads[event.stream_id] = dict(event.headers)
            elif kind is ngh2.TrailersReceived:
                self._heads[event.stream_id].update(event.headers)
            elif kind is ngh2.DataReceived:
                self._bodies[event.stream_id].append(event.data)
            elif kind is ngh2.StreamClosed or kind is ngh2.StreamReset:
                self._closed(event.stream_id, event.error_code)
            elif kind is ngh2.GoAwayReceived:
                self.usable = False
        self._schedule()

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        self._transport = None
        futures, self._futures = self._futures, {}
        for future in futures.values():
            if not future.done():
                future.set_exception(ConnectionResetError(f"closed: {error}"))

    def _closed(self, stream: int, code: int) -> None:
        fields = self._heads.pop(stream, {})
        body = b"".join(self._bodies.pop(stream, ()))
        future = self._futures.pop(stream, None)
        if future is None or future.done():
            return
        if code or not fields:
            future.set_exception(ConnectionResetError(f"stream closed with code {code}"))
        else:
            future.set_result(Answer(int(fields[b":status"]), fields, body))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._scheduled = False
        if self._transport is not None and (data := self._h2.data_to_send()):
            self._transport.write(bytes(data))
        if not self._h2.want_read and self._transport is not None:
            self._transport.close()
