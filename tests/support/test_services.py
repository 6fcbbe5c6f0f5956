"""The parts that other tests rely on do what they say."""

import json
import signal

import aiohttp
import grpc
import pytest

from tests.support.grpc_service import NOT_SERVING, GrpcService
from tests.support.http_service import HttpService, pattern
from tests.support.processes import Processes


async def test_http_service_counts_runs_by_request_id(http_service: HttpService) -> None:
    async with aiohttp.ClientSession(f"http://{http_service.address}") as session:
        async with session.post("/echo?a=1", data=b"hello", headers={"x-request-id": "r1"}) as response:
            seen = await response.json()
        async with session.get("/bytes/1000") as response:
            assert await response.read() == pattern(1000)
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/echo?a=1", "hello")
    assert http_service.runs == {"r1": 1}


async def test_http_stream_waits_for_each_release(http_service: HttpService) -> None:
    async with (
        aiohttp.ClientSession(f"http://{http_service.address}") as session,
        session.get("/stream?id=s&chunks=2") as response,
    ):
        http_service.release("s")
        assert await response.content.readany() == b"chunk 0\n"
        http_service.release("s")
        assert await response.content.read() == b"chunk 1\n"


async def test_http_failures_are_seeded() -> None:
    async def codes() -> list[int]:
        async with HttpService(seed=7) as service, aiohttp.ClientSession(f"http://{service.address}") as session:
            found = []
            for _ in range(20):
                async with session.get("/fail?rate=0.5") as response:
                    found.append(response.status)
            return found

    first = await codes()
    assert set(first) == {200, 503}
    assert await codes() == first


async def test_websocket_echoes(http_service: HttpService) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{http_service.address}/websocket", protocols=("echo",)) as socket,
    ):
        await socket.send_str("a")
        await socket.send_bytes(b"\x00")
        assert await socket.receive_str() == "a"
        assert await socket.receive_bytes() == b"\x00"


async def test_grpc_service_has_all_four_cardinalities(grpc_service: GrpcService) -> None:
    async with grpc.aio.insecure_channel(grpc_service.address) as channel:
        assert await channel.unary_unary("/test.Echo/Unary")(b"a", metadata=(("x-request-id", "r"),)) == b"a"
        assert [m async for m in channel.unary_stream("/test.Echo/ServerStream")(b"b")] == [b"b"] * 3
        assert await channel.stream_unary("/test.Echo/ClientStream")(iter([b"a", b"b"])) == b"ab"
        assert [m async for m in channel.stream_stream("/test.Echo/Bidi")(iter([b"1", b"2"]))] == [b"1", b"2"]
    assert grpc_service.runs == {"r": 1}
    assert grpc_service.calls == {"Unary": 1, "ServerStream": 1, "ClientStream": 1, "Bidi": 1}


async def test_grpc_failure_carries_trailers_and_details(grpc_service: GrpcService) -> None:
    async with grpc.aio.insecure_channel(grpc_service.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/test.Echo/Fail")(
                b"", metadata=(("x-code", "NOT_FOUND"), ("x-details", "no such user"), ("x-status-details", "why"))
            )
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == "no such user"
    trailers = dict(raised.value.trailing_metadata())
    assert trailers["x-blob-bin"] == b"\x00\xff\x01"
    assert b"why" in trailers["grpc-status-details-bin"]


async def test_grpc_metadata_tells_the_deadline(grpc_service: GrpcService) -> None:
    async with grpc.aio.insecure_channel(grpc_service.address) as channel:
        method = channel.unary_unary("/test.Echo/Metadata")
        bounded = json.loads(await method(b"", timeout=30, metadata=(("a-bin", b"\x01"),)))
        unbounded = json.loads(await method(b""))
    # grpcio rounds a timeout up, by less than a second.
    assert 0 < bounded["remaining"] < 31
    assert unbounded["remaining"] is None
    assert ["a-bin", "AQ=="] in bounded["metadata"]


async def test_grpc_health_answers_by_name(grpc_service: GrpcService) -> None:
    grpc_service.health["a.B"] = NOT_SERVING
    async with grpc.aio.insecure_channel(grpc_service.address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"
        assert await check(b"\x0a\x03a.B") == b"\x08\x02"
        with pytest.raises(grpc.aio.AioRpcError):
            await check(b"\x0a\x01x")


@pytest.mark.parametrize("module", ["tests.support.http_service", "tests.support.grpc_service"])
async def test_a_service_comes_back_on_its_port(processes: Processes, module: str) -> None:
    service = await processes.service(module)
    port, pid = service.port, service.pid
    service.kill()
    assert service.returncode == -signal.SIGKILL
    await service.restart()
    assert (service.port, service.pid == pid) == (port, False)


async def test_a_child_that_ends_early_shows_its_output(processes: Processes) -> None:
    with pytest.raises(AssertionError, match="unrecognized arguments: --nonsense"):
        await processes.service("tests.support.http_service", "--nonsense")


async def test_children_are_gone_after_reap() -> None:
    owner = Processes()
    service = await owner.service("tests.support.http_service")
    assert service.returncode is None
    owner.reap()
    assert service.returncode == -signal.SIGKILL
