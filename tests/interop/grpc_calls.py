"""What the gRPC tests of this folder share: configurations, channels, and calls whose
whole outcome can be compared with another one's.

Clients are unmodified grpcio; `service_config` retries are off there, so that every
repeat that a server counts is the sidecar's.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from sidecar.app import App
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint

ECHO = "/test.Echo/"
# Enough for a slow machine; a test that waits this long has failed.
WITHIN = 10.0

Metadata = tuple[tuple[str, str | bytes], ...]

# Words on which in-process clients retry by themselves (contract "Headers").
FORBIDDEN_WORDS = (
    "connection error",
    "connection refused",
    "connection reset",
    "client connection is closing",
    "transport is closing",
    "transport: error",
    "name resolver error",
    "no such host",
    "broken pipe",
    "eof",
    "keepalive ping failed",
    "server preface",
    "connect:",
)


def config(*endpoints: str, listener: dict[str, Any] | None = None, **cluster: Any) -> str:
    """YAML (JSON is a part of it) of one cluster `rpc` behind one listener `out`."""
    out = {"bind": "127.0.0.1:0", "routes": [{"to": "rpc"}], **(listener or {})}
    return json.dumps(
        {
            "service": "tests",
            "admin": {"bind": "127.0.0.1:0"},
            "clusters": {"rpc": {"endpoints": list(endpoints), **cluster}},
            "listeners": {"out": out},
        }
    )


def cluster_of(app: App, name: str = "rpc") -> Cluster:
    """The live cluster."""
    return app.runtime.snapshot.clusters[name]


def endpoint_of(app: App, index: int = 0) -> Endpoint:
    """A live endpoint of the cluster `rpc`."""
    return cluster_of(app).endpoints[index]


@asynccontextmanager
async def channel_to(target: Any, *options: tuple[str, Any], **more: Any) -> AsyncIterator[Any]:
    """A channel with its own connections, messages of any size, and no proxy of the environment."""
    fixed = (
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    )
    proxied = any(name == "grpc.http_proxy" for name, _ in options)
    direct = () if proxied else (("grpc.enable_http_proxy", 0),)
    async with grpc.aio.insecure_channel(str(target), options=(*fixed, *direct, *options), **more) as channel:
        yield channel


@asynccontextmanager
async def through(app: App, *options: tuple[str, Any], **more: Any) -> AsyncIterator[Any]:
    """A channel to the sidecar's listener `out`."""
    async with channel_to(app.address("out"), *options, **more) as channel:
        yield channel


@dataclass(frozen=True)
class Outcome:
    """Everything that a gRPC client is told of a call."""

    code: grpc.StatusCode
    details: str | None
    messages: tuple[bytes, ...]
    initial: Metadata
    trailing: Metadata

    def trailer(self, name: str) -> str | bytes | None:
        """The first trailing metadata of that name."""
        return dict(self.trailing).get(name)


async def unary(
    channel: Any, method: str, message: bytes = b"", metadata: Iterable[tuple[str, str | bytes]] = (), **more: Any
) -> Outcome:
    """A unary call to its end; errors are outcomes."""
    more.setdefault("timeout", WITHIN)
    call = channel.unary_unary(_path(method))(message, metadata=tuple(metadata), **more)
    try:
        answer: tuple[bytes, ...] = (await call,)
    except grpc.aio.AioRpcError:
        answer = ()
    return await _outcome(call, answer)


async def streamed(
    channel: Any, method: str, message: bytes = b"", metadata: Iterable[tuple[str, str | bytes]] = (), **more: Any
) -> Outcome:
    """A call whose answer is a stream, to its end; errors are outcomes."""
    more.setdefault("timeout", WITHIN)
    call = channel.unary_stream(_path(method))(message, metadata=tuple(metadata), **more)
    messages: list[bytes] = []
    try:
        while (part := await call.read()) is not grpc.aio.EOF:
            messages.append(part)
    except grpc.aio.AioRpcError:
        pass
    return await _outcome(call, tuple(messages))


def bidi(channel: Any, method: str = "Bidi", **more: Any) -> Any:
    """A bidirectional stream, driven by `write` and `read`."""
    return channel.stream_stream(_path(method))(**more)


async def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait for something of the server's or the sidecar's that no event tells."""
    try:
        async with asyncio.timeout(WITHIN):
            while not true():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"did not come about: {what}") from None


async def quiet(app: App) -> None:
    """Wait until nothing is under way, and see that every account is settled."""
    await eventually(lambda: app.runtime.in_flight == 0, "in_flight of the sidecar is 0")
    for cluster in app.runtime.snapshot.clusters.values():
        assert (cluster.requests.in_use, cluster.pending.in_use) == (0, 0)
        for endpoint in cluster.endpoints:
            assert endpoint.in_flight == 0
            for pool in endpoint.pools.values():
                assert not pool.waiters
                assert not pool.dialling
    streams = [
        connection
        for connection in (*app._connector.connections, *app.listeners["out"].connections)
        if getattr(connection, "protocol", "") == "http2"
    ]
    await eventually(lambda: not any(connection.streams for connection in streams), "no stream is left open")
    assert all(not connection._blocked for connection in streams)


async def _outcome(call: Any, messages: tuple[bytes, ...]) -> Outcome:
    return Outcome(
        await call.code(),
        await call.details(),
        messages,
        tuple((name, value) for name, value in await call.initial_metadata()),
        tuple((name, value) for name, value in await call.trailing_metadata()),
    )


def _path(method: str) -> str:
    return method if method.startswith("/") else ECHO + method
