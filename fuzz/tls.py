"""Any bytes in place of TLS from a client, or changed and cut records of a true client: the
handshake fails once or opens once, no exception gets out, no connection and no timer stays.

The first byte chooses: odd, the rest is all that the client says; even, a true handshake and
a request are made, and the rest says how each of its pieces is changed.
"""

import ssl
from functools import lru_cache
from typing import Any, Final

import trustme

from benchmarks.world import World
from fuzz.stage import Clock
from sidecar.wire.tls_layer import TlsLayer

_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_ROUNDS = 8
SEEDS: Final = (
    b"\0",
    b"\0\0\0\1\5",
    b"\0\0\1\x40\xff",
    b"\0\0\0\3\0",
    b"\1\x16\x03\x01\x00\x05hello",
    b"\1\x15\x03\x03\x00\x02\x02\x28",
    b"\1GET / HTTP/1.1\r\n\r\n",
)
WORDS: Final = (b"\x16\x03\x01", b"\x15\x03\x03\x00\x02", b"\x17\x03\x03", b"\x14\x03\x03\x00\x01\x01", b"\xff\xff")


class _Above:
    """The protocol inside: what it hears, and how often of its end."""

    def __init__(self) -> None:
        self.heard = b""
        self.ends = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.ends += 1


def check(data: bytes) -> None:
    """One connection's life; with nothing changed the request arrives."""
    clock = Clock()
    world = World("clusters: {a: {endpoints: ['h:1']}}", clock)
    before = len(world.timers)
    above = _Above()
    opened: list[Any] = []
    failed: list[Any] = []

    def on_open(layer: TlsLayer) -> None:
        opened.append(layer)
        layer.set_protocol(above)
        above.connection_made(layer)

    try:
        server, client = _contexts()
        layer = TlsLayer(world.runtime, server, on_open, lambda layer, error: failed.append(error), timeout=5.0)
        transport = world.accept(layer)
        if data[:1] and data[0] & 1:
            layer.data_received(data[1:])
        else:
            _talk(client, layer, transport, data[1:])
        if not transport.closing:
            layer.eof_received()
        layer.connection_lost(None)
        assert len(opened) + len(failed) <= 1, "it opened and failed, or one of them twice"
        assert above.ends == len(opened), "the protocol inside did not hear of the end once"
        assert len(world.timers) == before, "a timer stays"
        if data == SEEDS[0]:
            assert above.heard == _REQUEST
        assert _REQUEST.startswith(above.heard) or data[:1] == b"\1", "what was heard is not what was said"
    finally:
        world.close()


def _talk(client: ssl.SSLContext, layer: TlsLayer, transport: Any, changes: bytes) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(incoming, outgoing, server_hostname="a.example")
    asked = False
    for number in range(_ROUNDS):
        try:
            if asked:
                break
            tls.do_handshake()
            tls.write(_REQUEST)
            asked = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            break
        said = _changed(outgoing.read(), changes[number * 3 : number * 3 + 3])
        if transport.closing or not said:
            break
        layer.data_received(said)
        incoming.write(transport.take())


def _changed(record: bytes, change: bytes) -> bytes:
    """With one byte of it another, at a place that the first two bytes say; or cut there."""
    if len(change) < 3 or not record:
        return record
    place = int.from_bytes(change[:2], "big") % len(record)
    if change[2] == 0xFF:
        return record[:place]
    return record[:place] + bytes([record[place] ^ change[2]]) + record[place + 1 :]


@lru_cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
