"""The HTTP/1.1 side of the fault server. Reads just enough of RFC 9112, on its own."""

from http import HTTPStatus

from tests.support.fault_server import Connection, Fields, Request


class Http1Exchange:
    """One request on an HTTP/1.1 connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.server = connection.server
        # Whether the connection ends after this exchange by our word.
        self.closing = False
        self._head: Request | None = None
        self._whole = False
        self._chunked = False

    async def head(self) -> Request:
        if self._head is None:
            block = await self._until(b"\r\n\r\n")
            line, *rest = block[:-4].split(b"\r\n")
            method, path, _ = line.decode("latin-1").split(" ")
            self._head = Request(method, path, "", _fields(rest), self.connection.number)
            self._head.authority = self._head.header("host") or ""
            self.server.heads.append(self._head)
            await self.server.tell()
        return self._head

    async def request(self) -> Request:
        request = await self.head()
        if not self._whole:
            if request.header("expect") == "100-continue":
                self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if "chunked" in (request.header("transfer-encoding") or ""):
                await self._chunks(request)
            else:
                request.body = await self._take(int(request.header("content-length") or "0"))
            self._whole = True
            self.server.requests.append(request)
            await self.server.tell()
        return request

    async def send_head(self, status: int = 200, headers: Fields | None = None, length: int | None = None) -> None:
        self._chunked = length is None and status >= 200 and status not in (204, 304)
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in headers or []]
        if self._chunked:
            lines.append(b"transfer-encoding: chunked")
        elif length is not None:
            lines.append(b"content-length: %d" % length)
        if self.closing:
            lines.append(b"connection: close")
        await self.send_raw(b"\r\n".join(lines) + b"\r\n\r\n")

    async def send_data(self, data: bytes, end: bool = False) -> None:
        if self._chunked:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"0\r\n\r\n" if end else b"")
        await self.send_raw(data)

    async def send_trailers(self, trailers: Fields) -> None:
        assert self._chunked, "only a chunked body has trailers"
        await self.send_raw(b"0\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in trailers) + b"\r\n")

    async def send_raw(self, data: bytes) -> None:
        """Bytes as they are: garbage, a broken head, half a chunk."""
        self.connection.write(data)
        await self.connection.flush()

    def abandon(self, code: int) -> None:
        self.connection.reset()

    async def _chunks(self, request: Request) -> None:
        body = bytearray()
        while size := int((await self._until(b"\r\n")).split(b";")[0], 16):
            body += (await self._take(size + 2))[:-2]
        lines = []
        while (line := (await self._until(b"\r\n"))[:-2]) != b"":
            lines.append(line)
        request.body, request.trailers = bytes(body), _fields(lines)

    async def _until(self, mark: bytes) -> bytes:
        buffer = self.connection.buffer
        await self.connection.need(lambda: mark in buffer)
        return await self._take(buffer.index(mark) + len(mark))

    async def _take(self, size: int) -> bytes:
        buffer = self.connection.buffer
        await self.connection.need(lambda: len(buffer) >= size)
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken


async def serve_h1(connection: Connection) -> None:
    """Request after request, each by the server's next step."""
    server = connection.server
    while not connection.closed:
        while not connection.buffer:
            if not await connection.fill(server.idle_timeout):
                return
        exchange = Http1Exchange(connection)
        await server.play(exchange, server.next_step())
        connection.requests += 1
        if exchange.closing or connection.ended:
            return


def _fields(lines: list[bytes]) -> Fields:
    found = []
    for line in lines:
        name, _, value = line.partition(b":")
        found.append((name.strip().lower(), value.strip()))
    return found
