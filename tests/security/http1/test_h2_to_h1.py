"""Frames of hostile HTTP/2 clients before an HTTP/1.1 endpoint: what would be another request there is refused here."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from tests.security.http1.scene import Scene, serving
from tests.security.http2 import frames as f
from tests.security.http2.frames import Peer

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN: Final = 10.0

Fields = list[tuple[bytes, bytes]]
METHOD, SCHEME, PATH, AUTHORITY = (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")
POST: Final = (b":method", b"POST")
GET: Final[Fields] = [METHOD, SCHEME, PATH, AUTHORITY]
GOT: Final = b"GET / HTTP/1.1\r\nhost: a\r\n"


def field(name: bytes, value: bytes = b"v") -> Fields:
    return [*GET, (name, value)]


def path(value: bytes) -> Fields:
    return [METHOD, SCHEME, (b":path", value), AUTHORITY]


def method(value: bytes) -> Fields:
    return [(b":method", value), SCHEME, PATH, AUTHORITY]


def authority(value: bytes, *more: tuple[bytes, bytes]) -> Fields:
    return [METHOD, SCHEME, PATH, (b":authority", value), *more]


def scheme(value: bytes) -> Fields:
    return [METHOD, (b":scheme", value), PATH, AUTHORITY]


SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED: Final[dict[str, Fields]] = {
    "CR LF in a value": field(b"x-a", b"b\r\nx-b: c"),
    "a request in a value": field(b"x-a", b"b\r\n\r\n" + SMUGGLED),
    "CR in a value": field(b"x-a", b"b\rc"),
    "LF in a value": field(b"x-a", b"b\nc"),
    "NUL in a value": field(b"x-a", b"b\0c"),
    "a value that ends with LF": field(b"x-a", b"b\n"),
    "a value that begins with LF": field(b"x-a", b"\nb"),
    "a control byte in a value": field(b"x-a", b"b\x01c"),
    "DEL in a value": field(b"x-a", b"b\x7fc"),
    "a space before a value": field(b"x-a", b" b"),
    "a space behind a value": field(b"x-a", b"b "),
    "CR LF in a name": field(b"x-a: b\r\nx-b"),
    "LF in a name": field(b"x-a\nx-b"),
    "NUL in a name": field(b"x-a\0"),
    "a space in a name": field(b"x a"),
    "a space behind a name": field(b"x-a "),
    "a colon in a name": field(b"x-a:b"),
    "an empty name": field(b""),
    "an upper-case name": field(b"X-A"),
    "a byte above ASCII in a name": field(b"x-\xe4"),
    "CR LF in a path": path(b"/ HTTP/1.1\r\nhost: b\r\n\r\n"),
    "LF in a path": path(b"/\nx"),
    "NUL in a path": path(b"/\0"),
    "a space in a path": path(b"/a b"),
    "a version in a path": path(b"/ HTTP/1.1"),
    "a tab in a path": path(b"/a\tb"),
    "DEL in a path": path(b"/\x7f"),
    "a byte above ASCII in a path": path(b"/\xe4"),
    "a fragment in a path": path(b"/a#b"),
    "an empty path": path(b""),
    "a path without a slash": path(b"a"),
    "an absolute path": path(b"http://b/"),
    "an asterisk of a GET": path(b"*"),
    "a space in a method": method(b"GET /x HTTP/1.1\r\n"),
    "a request in a method": method(b"GET / HTTP/1.1\r\nhost: b\r\n\r\nGET"),
    "an empty method": method(b""),
    "CR LF in an authority": authority(b"a\r\nx-a: b"),
    "a space in an authority": authority(b"a b"),
    "a path in an authority": authority(b"a/b"),
    "user information": authority(b"user@a"),
    "a port that is no number": authority(b"a:x"),
    "two ports": authority(b"a:80:80"),
    "a port of 6 digits": authority(b"a:100000"),
    "a port alone": authority(b":80"),
    "half a bracket": authority(b"[::1"),
    "IPv6 without brackets": authority(b"::1"),
    "a host whose port is no number": [METHOD, SCHEME, PATH, (b"host", b"a:x")],
    "CONNECT without a port": [(b":method", b"CONNECT"), AUTHORITY],
    "CONNECT with an empty port": [(b":method", b"CONNECT"), (b":authority", b"a:")],
    "a host unlike the authority": authority(b"a", (b"host", b"b")),
    "two hosts, one of them alike": authority(b"a", (b"host", b"a"), (b"host", b"b")),
    "two hosts without an authority": [METHOD, SCHEME, PATH, (b"host", b"a"), (b"host", b"b")],
    "a host with user information": [METHOD, SCHEME, PATH, (b"host", b"user@a")],
    "a host with a space": [METHOD, SCHEME, PATH, (b"host", b"a b")],
    "two authorities": [METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY],
    "a scheme with a space": scheme(b"http x"),
    "connection": field(b"connection", b"close"),
    "connection that names a field": [*field(b"connection", b"x-a"), (b"x-a", b"b")],
    "keep-alive": field(b"keep-alive", b"timeout=5"),
    "proxy-connection": field(b"proxy-connection", b"close"),
    "transfer-encoding": field(b"transfer-encoding", b"chunked"),
    "transfer-encoding of another kind": field(b"transfer-encoding", b"identity"),
    "transfer_encoding": field(b"transfer_encoding", b"chunked"),
    "content_length": field(b"content_length", b"5"),
    "upgrade": field(b"upgrade", b"websocket"),
    "te other than trailers": field(b"te", b"gzip"),
    "te of trailers and others": field(b"te", b"trailers, gzip"),
    "a length without a body": field(b"content-length", b"5"),
    "two lengths": [*field(b"content-length", b"0"), (b"content-length", b"0")],
    "a length that is no number": field(b"content-length", b"+0"),
    "a list of lengths": field(b"content-length", b"0,0"),
    "an empty length": field(b"content-length", b""),
    "a length of 40 zeros": field(b"content-length", b"0" * 40),
    "a length of 40 zeros, beside the same host": authority(b"a", (b"host", b"a"), (b"content-length", b"0" * 40)),
}

# What is odd and passes: the head that the endpoint gets.
PASSES: Final[dict[str, tuple[Fields, bytes]]] = {
    "te of trailers": (field(b"te", b"trailers"), GOT + b"te: trailers\r\nconnection: te\r\n"),
    "a host like the authority": (authority(b"a", (b"host", b"a")), GOT),
    "a host alone": ([METHOD, SCHEME, PATH, (b"host", b"a")], GOT),
    "cookies in crumbs": ([*field(b"cookie", b"a=b"), (b"cookie", b"c=d")], GOT + b"cookie: a=b; c=d\r\n"),
    "an empty value": (field(b"x-a", b""), GOT + b"x-a: \r\n"),
    "bytes above ASCII in a value": (field(b"x-a", b"\xe4"), GOT + b"x-a: \xe4\r\n"),
    "a length of no body": (field(b"content-length", b"0"), GOT + b"content-length: 0\r\n"),
    "http2-settings": (field(b"http2-settings", b"AAMAAABk"), GOT),
    "proxy-authorization": (field(b"proxy-authorization", b"Basic eA=="), GOT),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene() -> AsyncIterator[Scene]:
    """A sidecar and its HTTP/1.1 endpoint."""
    async with serving() as scene:
        yield scene


@pytest_asyncio.fixture(loop_scope="module")
async def peer(scene: Scene) -> AsyncIterator[Peer]:
    """A client's connection, on which a request went well."""
    peer = await f.connect(scene.port)
    await peer.send(f.headers(1, GET, end=True))
    assert await status(peer, 1) == b"200"
    yield peer
    peer.close()


async def status(peer: Peer, stream: int) -> bytes:
    """The status of an answer that came whole, "reset" where the stream was reset."""
    got = b""
    if peer.of(f.RST_STREAM, stream):
        return b"reset"
    async with asyncio.timeout(WITHIN):
        while (frame := await peer.read_frame()) is not None:
            if frame.kind == f.HEADERS:
                fields = peer.decode(frame)
                got = fields.get(b":status", got) if frame.stream == stream else got
            if frame.stream == stream and frame.kind == f.RST_STREAM:
                return b"reset"
            if frame.stream == stream and frame.end:
                return got
    return b"closed"


async def goes_on(peer: Peer, scene: Scene, stream: int) -> None:
    """The connections on both sides are fit for another request."""
    before, connections = scene.upstream.received, len(scene.upstream.connections)
    await peer.send(f.headers(stream, GET, end=True))
    assert await status(peer, stream) == b"200"
    assert scene.upstream.received == before + GOT + b"\r\n"
    assert len(scene.upstream.connections) == connections


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED.keys())
async def test_what_http1_cannot_carry_is_refused(fields: Fields, peer: Peer, scene: Scene) -> None:
    before = scene.upstream.received
    await peer.send(f.headers(3, fields, end=True))
    assert await status(peer, 3) in (b"reset", b"400")
    assert scene.upstream.received == before
    await goes_on(peer, scene, 5)


@pytest.mark.parametrize(("fields", "got"), PASSES.values(), ids=PASSES.keys())
async def test_what_is_odd_goes_on_as_http1_has_it(fields: Fields, got: bytes, peer: Peer, scene: Scene) -> None:
    before = scene.upstream.received
    await peer.send(f.headers(3, fields, end=True))
    assert await status(peer, 3) == b"200"
    assert scene.upstream.received == before + got + b"\r\n"
    await goes_on(peer, scene, 5)


def post(*fields: tuple[bytes, bytes]) -> bytes:
    """The head of a POST on stream 3, whose body follows."""
    return f.headers(3, [POST, SCHEME, PATH, AUTHORITY, *fields])


CL5: Final = (b"content-length", b"5")
# Bodies that are refused, in the writes that they come in.
BODIES: Final[dict[str, list[bytes]]] = {
    "less DATA than the length": [post(CL5) + f.data(3, b"abc", end=True)],
    "less DATA than the length, later": [post(CL5) + f.data(3, b"abc"), f.data(3, end=True)],
    "more DATA than the length": [post(CL5) + f.data(3, b"abcdef", end=True)],
    "more DATA than the length, later": [post(CL5) + f.data(3, b"abc"), f.data(3, SMUGGLED, end=True)],
    "no DATA, but trailers": [post(CL5) + f.headers(3, [(b"x-t", b"1")], end=True)],
    "no DATA, but trailers, later": [post(CL5), f.headers(3, [(b"x-t", b"1")], end=True)],
    "a length with 20 zeros before it": [post((b"content-length", b"0" * 20 + b"5")) + f.data(3, b"hello", end=True)],
    "a length over 2^63": [post((b"content-length", b"9223372036854775808")) + f.data(3, b"hello")],
    "DATA to a length of 0": [post((b"content-length", b"0")) + f.data(3, SMUGGLED, end=True)],
    "trailers with a pseudo-header field": [post(), f.data(3, b"a"), f.headers(3, [(b":path", b"/")], end=True)],
    "trailers with CR LF": [post() + f.data(3, b"a"), f.headers(3, [(b"x-t", b"1\r\n\r\n" + SMUGGLED)], end=True)],
    "trailers with a connection field": [post(), f.headers(3, [(b"transfer-encoding", b"chunked")], end=True)],
    "trailers without an end": [post(), f.data(3, b"a"), f.headers(3, [(b"x-t", b"1")])],
}
# Bodies that the client gives up.
GIVEN_UP: Final[dict[str, list[bytes]]] = {
    "a head in the same breath": [post(CL5) + f.reset(3)],
    "a body of a length": [post(CL5) + f.data(3, b"abc"), f.reset(3)],
    "a body in chunks": [post() + f.data(3, b"abc"), f.reset(3)],
}


@pytest.mark.parametrize("writes", [*BODIES.values(), *GIVEN_UP.values()], ids=[*BODIES, *GIVEN_UP])
async def test_no_broken_body_is_left_on_a_connection_that_is_used_again(
    writes: list[bytes], peer: Peer, scene: Scene
) -> None:
    requests, kept = scene.upstream.requests, scene.upstream.connections[-1]
    before = kept.data
    for data in writes:
        await peer.send(data)
        await peer.alive()  # it was read
    if not writes[-1].endswith(f.reset(3)):
        assert await status(peer, 3) == b"reset"
    await peer.send(f.headers(5, GET, end=True))
    assert await status(peer, 5) == b"200"
    assert scene.upstream.requests == requests + 1
    assert scene.upstream.connections[-1].data.endswith(GOT + b"\r\n")
    if len(writes) == 1 and scene.upstream.connections[-1] is kept:
        assert kept.data == before + GOT + b"\r\n"  # nothing of it went out
    else:  # on a busy machine one read may be told in slices
        await asyncio.wait_for(kept.closed.wait(), WITHIN)
        assert kept.data.startswith(before + b"POST ")
        assert not kept.data.endswith((b"0\r\n\r\n", SMUGGLED))


async def test_trailers_that_route_or_authenticate_end_here(peer: Peer, scene: Scene) -> None:
    before = scene.upstream.received
    trailers = [(b"x-t", b"1"), (b"host", b"b"), (b"authorization", b"x"), (b"x-forwarded-for", b"9.9.9.9")]
    await peer.send(post(), f.data(3, b"abc"), f.headers(3, trailers, end=True))
    assert await status(peer, 3) == b"200"
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    assert scene.upstream.received == before + head + b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
    await goes_on(peer, scene, 5)
