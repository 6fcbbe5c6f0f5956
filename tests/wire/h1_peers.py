"""HTTP/1.1 connections of ours with the other side played by the test, in memory."""

import socket
from typing import Any

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.policy.pace import Pace
from sidecar.wire.h1_client import H1ClientConnection
from sidecar.wire.h1_server import H1ServerConnection
from tests.wire import h2_peers
from tests.wire.h2_peers import FakeRuntime, Heard

_PACE = Pace()


class _Socket:
    family = socket.AF_INET

    def __init__(self) -> None:
        self.reset_on_close = False

    def fileno(self) -> int:
        return -1  # nothing lies in it

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self.reset_on_close = (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)


class FakeTransport(h2_peers.FakeTransport):
    """Keeps what is written, and whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.socket = _Socket()
        self.reading = True
        self.eof = False
        self.half_closable = True
        self.protocol: Any = None

    def get_extra_info(self, name: str) -> Any:
        return self.socket if name == "socket" else super().get_extra_info(name)

    def write(self, data: bytes) -> None:
        assert not self.eof, "written after write_eof"
        super().write(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return self.half_closable

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol


class Downstream:
    """A client of our H1ServerConnection. `begun` holds (head, end, receiver) of each request."""

    def __init__(self, pace: Pace = _PACE) -> None:
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.begun: list[tuple[RequestHead, bool, Heard]] = []
        self.closed: list[Any] = []
        # Called inside of `begin`, as an exchange that answers at once does.
        self.on_begin: Any = lambda head: None
        self.connection = H1ServerConnection(self.runtime, self._begin, self.closed.append, pace=pace)  # type: ignore[arg-type]
        self.connection.connection_made(self.transport)

    def _begin(self, stream: Any, head: RequestHead, end: bool) -> None:
        heard = Heard(stream)
        stream.receiver = heard
        self.begun.append((head, end, heard))
        self.on_begin(head)

    @property
    def heard(self) -> Heard:
        """The receiver of the latest request."""
        return self.begun[-1][2]

    @property
    def paths(self) -> list[bytes]:
        """The requests that were begun."""
        return [head.path for head, _, _ in self.begun]

    def say(self, data: bytes) -> bytes:
        """Bytes of the client in one read; what was written by the end of the turn."""
        self.connection.data_received(data)
        return self.transport.take()

    def do(self, action: Any) -> bytes:
        """Do something as a callback of the event loop would; what was written."""
        self.runtime.turn.begin()
        action()
        self.runtime.turn.end()
        return self.transport.take()

    def answer(self, body: bytes = b"", status: int = 200, headers: Headers | None = None) -> bytes:
        """Answer the request under way with a length; the bytes on the wire."""
        return self.do(lambda: respond(self.connection, body, status, headers))

    def half_close(self) -> bool:
        """The client ends its direction; whether we keep ours."""
        keep = self.connection.eof_received()
        if not keep:
            self.transport.close()
        return keep

    def lose(self) -> None:
        self.connection.connection_lost(None)


def respond(stream: Any, body: bytes = b"", status: int = 200, headers: Headers | None = None) -> None:
    """A whole response with a Content-Length."""
    fields: Headers = [*(headers or []), (b"content-length", b"%d" % len(body))]
    stream.send_head(ResponseHead(status, fields, len(body)), not body)
    if body:
        stream.send_data(body, True)


class Upstream:
    """A server of our H1ClientConnection. It is its own owner."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.idle: list[Any] = []
        self.closed: list[bool] = []
        self.connection = H1ClientConnection(self.runtime, self)  # type: ignore[arg-type]
        self.connection.connection_made(self.transport)

    def on_idle(self, connection: Any) -> None:
        self.idle.append(connection)

    def on_closed(self, connection: Any, idle: bool) -> None:
        self.closed.append(idle)

    def ask(self, method: bytes = b"GET", end: bool = True, **changes: Any) -> Heard:
        """Send a request head through our connection, as an exchange does."""
        heard = Heard()

        def start() -> None:
            heard.stream = self.connection.open(heard)
            values: dict[str, Any] = {"path": b"/", "authority": b"a", "headers": []}
            heard.stream.send_head(RequestHead(method, **(values | changes)), end)

        self.do(start)
        return heard

    def do(self, action: Any) -> bytes:
        """Do something as a callback of the event loop would; what was written."""
        self.runtime.turn.begin()
        action()
        self.runtime.turn.end()
        return self.transport.take()

    def say(self, data: bytes) -> None:
        """Bytes of the server in one read."""
        self.connection.data_received(data)

    def half_close(self) -> bool:
        """The server ends its direction; whether we keep ours."""
        keep = self.connection.eof_received()
        if not keep:
            self.transport.close()
        return keep

    def lose(self, error: Exception | None = None) -> None:
        self.connection.connection_lost(error)

    @property
    def reusable(self) -> bool:
        """Whether the connection went back to its owner once, and stands."""
        return len(self.idle) == 1 and not self.transport.closing


RESET = Failure.RESET
