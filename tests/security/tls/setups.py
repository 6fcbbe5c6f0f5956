"""What the TLS tests share: authorities, clients that say why they failed, servers that send alerts."""

import asyncio
import http.server
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp

from sidecar.app import App
from tests.interop.setups import TIMEOUT
from tests.support.authority import Authority, Identity

NAME = "web.internal"


def listener_tls(identity: Identity, **more: Any) -> dict[str, Any]:
    """A listener's `tls` section."""
    return {"cert": identity.cert, "key": identity.key, **more}


def cluster_tls(authority: Authority, **more: Any) -> dict[str, Any]:
    """A cluster's `tls` section."""
    return {"ca": authority.path, "server_name": NAME, **more}


@asynccontextmanager
async def secure(
    app: App, context: ssl.SSLContext, listener: str = "out", **options: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client whose relative URLs go to a listener over TLS, for NAME."""
    connector = aiohttp.TCPConnector(ssl=context)
    base = f"https://{app.address(listener)}"
    async with aiohttp.ClientSession(base, timeout=TIMEOUT, connector=connector, **options) as client:
        yield client


async def handshake_error(app: App, context: ssl.SSLContext, listener: str = "out") -> ssl.SSLError | None:
    """What a client's TLS says that connects, asks for something and waits; None when it is served.
    On a plain socket in a thread: the event loops' own TLS hides alerts."""

    def run() -> ssl.SSLError | None:
        address = app.address(listener)
        try:
            with (
                socket.create_connection((address.host, address.port), 10) as sock,
                context.wrap_socket(sock, server_hostname=NAME) as tls,
            ):
                tls.sendall(b"GET / HTTP/1.1\r\nhost: web.internal\r\nconnection: close\r\n\r\n")
                while tls.recv(65536):
                    pass
        except ssl.SSLError as error:
            return error
        return None

    return await asyncio.to_thread(run)


class _Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def log_message(self, *args: Any) -> None: ...


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@contextmanager
def threaded_server(context: ssl.SSLContext) -> Iterator[str]:
    """An HTTPS server whose failed handshakes end with an alert; its address."""
    server = _Server(("127.0.0.1", 0), _Answering)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def counted(app: App, side: str) -> dict[str, int]:
    """The failed handshakes of a side, by reason; those that there were."""
    return {reason: number for (one, reason), number in app.runtime.tls.errors.items() if one == side and number}
