"""Parsers that run in this process: llhttp, h11, http.server, gunicorn, waitress."""

import io
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any

import h11
import httptools
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.parser import RequestParser
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

from tests.security.http1.readers.reading import End, Reading, Request


class _Llhttp:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.begun = False

    def on_message_begin(self) -> None:
        self.begun, self.target, self.body = True, b"", b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.begun = False
        self.requests.append(Request(self.parser.get_method(), self.target, self.body))

    def read(self, data: bytes) -> Reading:
        self.parser: Any = httptools.HttpRequestParser(self)
        end = None
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            end = End.CLOSED
        return Reading(tuple(self.requests), end or (End.PARTIAL if self.begun else End.CLEAN))


def llhttp(data: bytes) -> Reading:
    """llhttp by httptools."""
    return _Llhttp().read(data)


def h11_(data: bytes) -> Reading:
    """h11."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found: list[Request] = []
    method = target = body = b""
    while True:
        try:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, target, body = event.method, event.target, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                found.append(Request(method, target, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return Reading(tuple(found), End.CLOSED)
                connection.start_next_cycle()
            elif event is h11.PAUSED:
                return Reading(tuple(found), End.CLOSED)
            else:
                idle = connection.their_state is h11.IDLE and not connection.trailing_data[0]
                return Reading(tuple(found), End.CLEAN if idle else End.PARTIAL)
        except h11.ProtocolError:
            return Reading(tuple(found), End.CLOSED)


class _StandardLibrary(BaseHTTPRequestHandler):
    """A handler that reads bodies by their length; it refuses codings, as one without them should (RFC 9112 6.1)."""

    protocol_version = "HTTP/1.1"
    headers: Message

    def setup(self) -> None:
        self.rfile = io.BytesIO(self.request)
        self.wfile = io.BytesIO()
        self.found: list[Request] = []
        self.end = End.CLEAN

    def handle(self) -> None:
        self.close_connection = False
        while not self.close_connection:
            place = self.rfile.tell()
            self.handle_one_request()
            if self.close_connection and self.rfile.tell() > place and self.end is End.CLEAN:
                self.end = End.CLOSED

    def finish(self) -> None:
        pass

    def log_message(self, *args: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.take
        raise AttributeError(name)

    def take(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.send_error(501)
            self.close_connection = True
            return
        body = self.rfile.read(min(int(length), len(self.request)))
        if len(body) < int(length):
            self.end, self.close_connection = End.PARTIAL, True
            return
        method, target, *_ = self.requestline.encode("latin-1").split()
        self.found.append(Request(method, target, body))


def http_server(data: bytes) -> Reading:
    """http.server of the standard library."""
    handler = _StandardLibrary(data, ("127.0.0.1", 1), None)  # type: ignore[arg-type]
    return Reading(tuple(handler.found), handler.end)


def gunicorn(data: bytes) -> Reading:
    """gunicorn's own parser, with its default limits."""
    found: list[Request] = []
    begun = False
    parser = RequestParser(Config(), _once(data), ("127.0.0.1", 1))
    try:
        for message in parser:
            begun = True
            request = Request(message.method.encode("latin-1"), message.uri.encode("latin-1"), message.body.read())
            length = [int(value) for name, value in message.headers if name == "CONTENT-LENGTH"]
            if length and len(request.body) < length[0]:
                return Reading(tuple(found), End.PARTIAL)
            begun = False
            found.append(request)
            if message.should_close():
                return Reading(tuple(found), End.CLOSED)
    except (NoMoreData, StopIteration) as error:
        rest = getattr(error, "buf", b"") or b""
        return Reading(tuple(found), End.PARTIAL if begun or rest.strip(b"\r\n") else End.CLEAN)
    except (ParseException, OSError, ValueError, UnicodeError):
        return Reading(tuple(found), End.CLOSED)
    return Reading(tuple(found), End.CLEAN)


def _once(data: bytes) -> Iterator[bytes]:
    yield data


def waitress(data: bytes) -> Reading:
    """waitress."""
    found: list[Request] = []
    adjustments = Adjustments()
    while data:
        parser = HTTPRequestParser(adjustments)
        while data and not parser.completed:
            data = data[parser.received(data) :]
        if not parser.completed:
            return Reading(tuple(found), End.PARTIAL)
        if parser.error is not None:
            return Reading(tuple(found), End.CLOSED)
        if parser.empty:
            continue
        body = parser.get_body_stream().read() if parser.body_rcv is not None else b""
        found.append(Request(parser.command.encode("latin-1"), parser.request_uri.encode("latin-1"), body))
        if parser.connection_close:
            return Reading(tuple(found), End.CLOSED)
    return Reading(tuple(found), End.CLEAN)


READERS = {"llhttp": llhttp, "h11": h11_, "http.server": http_server, "gunicorn": gunicorn, "waitress": waitress}
