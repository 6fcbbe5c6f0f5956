"""Our connections against python-h2, which shares no code with libnghttp2."""

from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.wire.h2_client import H2ClientConnection
from sidecar.wire.h2_server import H2ServerConnection
from tests.wire.h2_peers import FakeRuntime, FakeTransport, Heard, request

MIB = 1024 * 1024
BODY = bytes(range(256)) * (8 * MIB // 256)


class Peer:
    """python-h2 at the other end; it takes what it is sent and reads on at once."""

    def __init__(self, client: bool) -> None:
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.connection: Any = None
        self.peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding=None))
        self.events: list[Any] = []
        self.bodies: dict[int, bytearray] = {}
        # What is still to be sent, by stream.
        self.sending: dict[int, bytes] = {}

    def start(self, connection: Any) -> None:
        self.connection = connection
        self.peer.initiate_connection()
        connection.connection_made(self.transport)
        self.pump()

    def pump(self) -> None:
        """Carry bytes until both are silent."""
        while True:
            self.runtime.loop.run()
            data = self.transport.take()
            if data:
                self._read(data)
            self._send()
            back = self.peer.data_to_send()
            if back and not self.transport.closing:
                self.connection.data_received(back)
            elif not data:
                return

    def _read(self, data: bytes) -> None:
        for event in self.peer.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.bodies.setdefault(event.stream_id, bytearray()).extend(event.data)
                if event.flow_controlled_length:
                    self.peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _send(self) -> None:
        for stream_id, body in list(self.sending.items()):
            room = self.peer.local_flow_control_window(stream_id)
            while body and room:
                piece = body[: min(room, self.peer.max_outbound_frame_size)]
                body = body[len(piece) :]
                self.peer.send_data(stream_id, piece)
                room -= len(piece)
            self.sending[stream_id] = body
            if not body:
                self.peer.end_stream(stream_id)
                del self.sending[stream_id]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Client(Peer):
    """A client of our server connection; every request is answered by `answer`."""

    def __init__(self, answer: Any) -> None:
        super().__init__(True)
        self.heard: list[Heard] = []
        self._answer = answer
        self.start(H2ServerConnection(self.runtime, self._begin))  # type: ignore[arg-type]

    def _begin(self, stream: Any, head: RequestHead, end: bool) -> None:
        heard = Heard(stream)
        stream.receiver = heard
        self.heard.append(heard)
        self._answer(stream, heard)

    def ask(self, stream_id: int, body: bytes = b"", extra: Any = ()) -> None:
        fields = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "host"), *extra]
        self.peer.send_headers(stream_id, fields, end_stream=not body)
        if body:
            self.sending[stream_id] = body


class Server(Peer):
    """A server of our client connection."""

    def __init__(self) -> None:
        super().__init__(False)
        self.start(H2ClientConnection(self.runtime, self))  # type: ignore[arg-type]

    def on_available(self, connection: Any) -> None: ...
    def on_draining(self, connection: Any) -> None: ...
    def on_closed(self, connection: Any) -> None: ...


def send_all(stream: Any, heard: Heard, body: bytes) -> None:
    """Send a large body as its reader allows."""
    sent = 0

    def go_on() -> None:
        nonlocal sent
        while sent < len(body):
            piece = body[sent : sent + 50_000]
            sent += len(piece)
            if not stream.send_data(piece, sent == len(body)):
                return

    heard.on_writable_do = go_on
    go_on()


def answer_large(stream: Any, heard: Heard) -> None:
    stream.send_head(ResponseHead(200, [(b"x", b"1")]), False)
    send_all(stream, heard, BODY)


def test_a_client_uploads_and_downloads_8_mib() -> None:
    client = Client(answer_large)
    client.ask(1, BODY)
    client.pump()
    assert client.bodies[1] == BODY
    assert len(client.of(h2.events.StreamEnded)) == 1


def test_a_client_uploads_8_mib_to_a_patient_answer() -> None:
    def answer(stream: Any, heard: Heard) -> None:
        told = heard.on_data

        def on_data(data: bytes, end: bool) -> None:
            told(data, end)
            if end:
                stream.send_head(ResponseHead(200, []), True)

        heard.on_data = on_data  # type: ignore[method-assign]

    client = Client(answer)
    client.ask(1, BODY)
    client.pump()
    assert client.heard[0].body == BODY
    assert client.of(h2.events.ResponseReceived)[0].headers == [(b":status", b"200")]
    assert client.of(h2.events.StreamReset) == []
    assert client.connection.open_streams == 0


def test_an_early_answer_is_whole_and_the_upload_is_stopped() -> None:
    def answer(stream: Any, heard: Heard) -> None:
        stream.send_head(ResponseHead(413, []), False)
        stream.send_data(b"too much", True)

    client = Client(answer)
    client.peer.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
    client.pump()
    assert client.bodies[1] == b"too much"
    assert [type(event) for event in client.events[-2:]] == [h2.events.StreamEnded, h2.events.StreamReset]
    assert client.of(h2.events.StreamReset)[0].error_code == h2.errors.ErrorCodes.NO_ERROR


@pytest.mark.parametrize("extra", [[("cookie", "a=1"), ("cookie", "b=2")]])
def test_split_cookies(extra: Any) -> None:
    heads: list[RequestHead] = []
    client = Client(lambda stream, heard: None)
    client.connection._begin = lambda stream, head, end: heads.append(head)
    client.ask(1, extra=extra)
    client.pump()
    assert heads[0].headers == [(b"cookie", b"a=1; b=2")]


def test_a_server_is_sent_8_mib_and_sends_8_mib() -> None:
    server = Server()
    heard = Heard()

    def start() -> None:
        stream = server.connection.open(heard)
        stream.send_head(request(), False)
        send_all(stream, heard, BODY)

    server.runtime.turn.begin()
    start()
    server.runtime.turn.end()
    server.pump()
    assert server.bodies[1] == BODY
    server.peer.send_headers(1, [(":status", "200")])
    server.sending[1] = BODY
    server.pump()
    assert heard.body == BODY
    assert heard.ended
    assert server.connection.open_streams == 0


def test_a_server_that_resets_and_says_goaway() -> None:
    server = Server()
    first, second = Heard(), Heard()
    server.runtime.turn.begin()
    for heard in (first, second):
        server.connection.open(heard).send_head(request(), True)
    server.runtime.turn.end()
    server.pump()
    server.peer.reset_stream(3, h2.errors.ErrorCodes.REFUSED_STREAM)
    server.peer.send_headers(1, [(":status", "200"), ("grpc-status", "14")], end_stream=True)
    server.peer.close_connection()
    server.pump()
    assert first.log == [("head", 200, True)]
    assert second.failure is not None
    assert second.failure.reason == "refused"
    assert server.transport.closing
