"""An exchange that has ended is freed at once: a reference cycle in each would be the collector's,
which stops everybody for a millisecond or two, many times a second."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.paths import GrpcPath, Http1Path
from benchmarks.world import Transport, World
from sidecar.proxy.exchange import beginner
from sidecar.wire.h2_client import H2ClientConnection
from sidecar.wire.h2_server import H2ServerConnection
from tests.security.http2 import frames as f

_CALLS = 10


@contextmanager
def collected() -> Iterator[list[int]]:
    """How many objects of what is made inside only the collector finds."""
    found: list[int] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        found.append(gc.collect())
    finally:
        gc.enable()


@pytest.mark.parametrize("path", [Http1Path, GrpcPath])
def test_an_answered_request_leaves_none(path: Callable[[], Http1Path | GrpcPath]) -> None:
    used = path()
    for _ in range(_CALLS):
        used.cycle(lambda receive, data: receive(data))
    with collected() as found:
        for _ in range(_CALLS):
            used.cycle(lambda receive, data: receive(data))
    used.close()
    assert found == [0]


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(lambda stream: f.headers(stream, f.GET, end=True) + f.reset(stream), id="cancelled"),
        pytest.param(lambda stream: f.headers(stream, f.POST) + f.reset(stream), id="cancelled within its body"),
        pytest.param(lambda stream: f.headers(stream, f.POST) + f.window_update(stream, 0), id="broken"),
    ],
)
def test_a_request_that_is_given_up_leaves_none(frames: Callable[[int], bytes]) -> None:
    world = World("clusters: {users: {protocol: http2, listen: '127.0.0.1:0', endpoints: ['127.0.0.1:9000']}}")
    connection = H2ServerConnection(world.runtime, beginner(world.runtime, "users"), lambda closed: None)
    transport = world.accept(connection)

    def read(data: bytes) -> None:
        connection.data_received(data)
        while connection.unread:  # a busy machine tells it in parts
            world.go_on()

    read(f.PREFACE + f.settings() + f.settings(ack=True))
    for stream in range(1, 20, 2):
        read(frames(stream))
    with collected() as found:
        for stream in range(21, 21 + 2 * _CALLS, 2):
            read(frames(stream))
            transport.clear()
    world.close()
    assert found == [0]


@pytest.mark.parametrize("side", ["downstream", "upstream"])
def test_a_connection_of_http2_that_is_gone_leaves_none(side: str) -> None:
    """What it holds may be many megabytes: answers that no window took."""
    world = World("clusters: {users: {protocol: http2, listen: '127.0.0.1:0', endpoints: ['127.0.0.1:9000']}}")

    def live() -> None:
        if side == "downstream":
            connection: Any = H2ServerConnection(world.runtime, beginner(world.runtime, "users"), lambda closed: None)
            world.accept(connection)
            connection.data_received(f.PREFACE + f.settings() + f.headers(1, f.GET, end=True))
        else:
            connection = H2ClientConnection(world.runtime, Nobody())
            connection.connection_made(Transport(connection))
            connection.data_received(f.settings())
        connection.connection_lost(None)
        world.go_on()

    live()
    with collected() as found:
        for _ in range(_CALLS):
            live()
    world.close()
    assert found == [0]


class Nobody:
    """A pool that has forgotten its connections."""

    def on_available(self, connection: Any) -> None:
        """It has."""

    on_draining = on_closed = on_available
