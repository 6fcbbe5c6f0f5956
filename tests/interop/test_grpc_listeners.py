"""Every way in for a grpcio client: unix sockets, a cluster's own port, routes, HTTP_PROXY;
and what is turned away at the door."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.interop.grpc_calls import (
    FORBIDDEN_WORDS,
    bidi,
    channel_to,
    cluster_of,
    config,
    eventually,
    quiet,
    streamed,
    through,
    unary,
)
from tests.support import faults
from tests.support.fault_server import FaultServer, refusing_port
from tests.support.grpc_service import GrpcService
from tests.support.sidecar import running

TRANSIENT_FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE
ROOMY = (("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20))


async def test_a_unix_socket(grpc_service: GrpcService, socket_folder: Path) -> None:
    path = socket_folder / "out.sock"
    async with running(config(grpc_service.address, listener={"bind": f"unix:{path}"})) as app:
        async with channel_to(f"unix:{path}") as channel:
            assert (await unary(channel, "Unary", b"m")).messages == (b"m",)
            assert len((await streamed(channel, "ServerStream", b"m")).messages) == 3
        await quiet(app)
    assert not path.exists()


async def test_a_clusters_own_port(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address, listen="127.0.0.1:0")) as app:
        async with channel_to(app.address("rpc")) as channel:
            assert (await unary(channel, "Unary", b"m")).messages == (b"m",)
        await quiet(app)


async def test_routes_by_service_method_and_metadata(grpc_service: GrpcService) -> None:
    routes: list[dict[str, Any]] = [
        {"match": {"grpc": "test.Echo/Unary"}, "to": "rpc"},
        {"match": {"grpc": "test.Echo/*", "headers": {"x-beta": "1"}}, "to": "rpc"},
    ]
    async with running(config(grpc_service.address, listener={"routes": routes})) as app, through(app) as channel:
        assert (await unary(channel, "Unary", b"m")).messages == (b"m",)
        assert len((await streamed(channel, "ServerStream", b"m", (("x-beta", "1"),))).messages) == 3
        for method in ("ServerStream", "/other.Service/Method"):
            outcome = await unary(channel, method)
            assert outcome.code is grpc.StatusCode.UNIMPLEMENTED
            assert outcome.trailer("x-sidecar-error") == "no_route"
        call = bidi(channel)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert grpc_service.calls == {"Unary": 1, "ServerStream": 1}
        await quiet(app)


def forward(service: GrpcService, **listener: Any) -> str:
    """A forward listener whose route matches one host."""
    routes = [{"match": {"host": "users.internal"}, "to": "rpc"}]
    return config(service.address, listener={"mode": "forward", "routes": routes, **listener})


async def test_http_proxy_looks_into_what_a_route_matches(grpc_service: GrpcService) -> None:
    async with running(forward(grpc_service)) as app:
        proxy = ("grpc.http_proxy", f"http://{app.address('out')}")
        async with channel_to("users.internal:50051", proxy) as channel:
            assert (await unary(channel, "Unary", b"m")).messages == (b"m",)
            assert (await unary(channel, "Fail", metadata=(("x-code", "NOT_FOUND"),))).code is grpc.StatusCode.NOT_FOUND
            call = bidi(channel)
            await call.write(b"1")
            assert await call.read() == b"1"
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
            outcomes = await asyncio.gather(*(unary(channel, "Unary", b"%d" % n) for n in range(50)))
            assert [outcome.messages for outcome in outcomes] == [(b"%d" % n,) for n in range(50)]
        # Seen as gRPC, not as bytes in a tunnel.
        assert cluster_of(app).durations.count >= 52
        await quiet(app)


async def test_http_proxy_to_an_allowed_host_is_a_tunnel_and_to_another_refused(grpc_service: GrpcService) -> None:
    async with running(forward(grpc_service, allow=["127.0.0.1"])) as app:
        proxy = ("grpc.http_proxy", f"http://{app.address('out')}")
        async with channel_to(f"localhost.invalid:{grpc_service.port}", proxy) as channel:
            outcome = await unary(channel, "Unary", timeout=2)
            assert outcome.code is grpc.StatusCode.UNAVAILABLE
        async with channel_to(f"127.0.0.1:{grpc_service.port}", proxy) as channel:
            assert (await unary(channel, "Unary", b"m")).messages == (b"m",)
        assert grpc_service.calls == {"Unary": 1}


async def test_wait_for_ready_meets_a_sidecar_that_starts_later(grpc_service: GrpcService) -> None:
    async with refusing_port() as port, channel_to(f"127.0.0.1:{port}") as channel:
        assert (await unary(channel, "Unary")).code is grpc.StatusCode.UNAVAILABLE
    async with channel_to(
        f"127.0.0.1:{port}", ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)
    ) as channel:
        pending = asyncio.create_task(unary(channel, "Unary", b"m", wait_for_ready=True))
        await eventually(lambda: channel.get_state() is TRANSIENT_FAILURE, "the first try to connect has failed")
        async with running(config(grpc_service.address, listener={"bind": f"127.0.0.1:{port}"})) as app:
            assert (await pending).messages == (b"m",)
            await quiet(app)


@pytest.mark.parametrize("size", [20_000, 60_000])
async def test_large_metadata_passes_both_ways(size: int) -> None:
    value = "v" * size
    large = [(b"x-large", value.encode())]
    async with (
        FaultServer(then=faults.grpc_answer(b"m", trailers=large)) as server,
        running(config(server.address)) as app,
        through(app, *ROOMY) as channel,
    ):
        outcome = await unary(channel, "Unary", metadata=(("x-large", value),))
        assert (outcome.code, outcome.trailer("x-large")) == (grpc.StatusCode.OK, value)
        assert server.requests[0].header("x-large") == value
        await quiet(app)


async def test_too_large_metadata_is_refused_in_the_clients_language(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address)) as app:
        async with through(app, *ROOMY) as channel:
            outcome = await unary(channel, "Unary", metadata=tuple((f"x-{n}", "v" * 9_000) for n in range(8)))
            assert outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert outcome.trailer("x-sidecar-error") == "too_large"
            assert (await unary(channel, "Unary", b"m")).messages == (b"m",)
        assert grpc_service.calls == {"Unary": 1}
        await quiet(app)


async def test_too_large_an_answer_ends_its_own_call_alone() -> None:
    large = [(b"x-%d" % number, b"v" * 30_000) for number in range(10)]
    async with (
        FaultServer(faults.grpc_trailers_only(5, "big", large), then=faults.grpc_answer(b"m")) as server,
        running(config(server.address)) as app,
        through(app, *ROOMY) as channel,
    ):
        outcome = await unary(channel, "Unary")
        assert outcome.code is not grpc.StatusCode.OK
        assert not [word for word in FORBIDDEN_WORDS if word in (outcome.details or "").lower()]
        assert (await unary(channel, "Unary")).messages == (b"m",)
        await quiet(app)


async def test_a_drain_lets_streams_end_and_clients_come_again(grpc_service: GrpcService) -> None:
    async with running(config(grpc_service.address)) as app, through(app) as channel:
        call = bidi(channel)
        await call.write(b"1")
        assert await call.read() == b"1"
        app.drain()
        for number in range(20):
            # GOAWAY, a new connection, GOAWAY again: nothing fails.
            assert (await unary(channel, "Unary", b"%d" % number, wait_for_ready=True)).messages == (b"%d" % number,)
        await call.write(b"2")
        assert await call.read() == b"2"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await quiet(app)
