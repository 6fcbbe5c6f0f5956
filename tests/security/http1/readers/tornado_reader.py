"""The list of requests that tornado reads from a stream of bytes. Input and output as in reader.go."""

import asyncio
import base64
import json
import logging
import socket
import sys
from typing import Any

from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream


class _Message(HTTPMessageDelegate):
    def __init__(self, reading: "_Reading", connection: Any) -> None:
        self.reading = reading
        self.connection = connection
        self.line: Any = None
        self.body = b""

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        self.line = start_line
        self.reading.begun = True

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def finish(self) -> None:
        assert isinstance(self.line, RequestStartLine)
        self.reading.begun = False
        target, body = base64.b64encode(self.line.path.encode("latin-1")), base64.b64encode(self.body)
        found = {"method": self.line.method, "target": target.decode(), "body": body.decode()}
        self.reading.requests.append(found)
        head = ResponseStartLine("HTTP/1.1", 200, "OK")
        self.connection.write_headers(head, HTTPHeaders({"Content-Length": "0"}))
        self.connection.finish()


class _Reading(HTTPServerConnectionDelegate):
    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.begun = False
        self.done = asyncio.Event()

    def start_request(self, server_conn: object, request_conn: Any) -> _Message:
        self.begun = False
        return _Message(self, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.done.set()


async def read(data: bytes) -> dict[str, Any]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reading = _Reading()
    HTTP1ServerConnection(IOStream(theirs), HTTP1ConnectionParameters(no_keep_alive=False)).start_serving(reading)
    loop = asyncio.get_running_loop()
    said = b""
    refused = False
    try:
        await loop.sock_sendall(ours, data)
        ours.shutdown(socket.SHUT_WR)
        while more := await loop.sock_recv(ours, 65536):
            said += more
    except OSError:
        refused = True  # it closed with bytes unread
    await reading.done.wait()
    ours.close()
    refused = refused or b" 400 " in said or b"Connection: close" in said
    return {"requests": reading.requests, "end": "closed" if refused else "partial" if reading.begun else "clean"}


def main() -> None:
    logging.disable()
    while size := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(int.from_bytes(size, "big"))
        print(json.dumps(asyncio.run(read(data))), flush=True)


if __name__ == "__main__":
    main()
