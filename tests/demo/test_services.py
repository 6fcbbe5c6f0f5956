"""The demo's services fail, slow down and stop as they are told."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import aiohttp
import grpc
import pytest

from sidecar.demo.processes import ServiceChild, stop_all
from sidecar.demo.services import Conduct, Fault
from tests.support.clock import FakeClock
from tests.support.processes import Processes, Service

MODULE = "sidecar.demo.services"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("none", Fault()),
        ("fail:0.3", Fault(ratio=0.3)),
        ("slow:4", Fault(after=4, delay=0.5)),
        ("slow:4:0.2", Fault(after=4, delay=0.2)),
    ],
)
def test_faults_are_read(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize("text", ["", "fail", "fail:2", "fail:x", "slow:-1", "slow:1:2:3", "none:1"])
def test_what_is_no_fault_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}'"):
        Fault.parse(text)


def test_a_ratio_of_the_calls_fails_and_the_seed_decides_which() -> None:
    runs = [[conduct.fails() for _ in range(1000)] for conduct in (Conduct(Fault(ratio=0.3), 7) for _ in range(2))]
    assert runs[0] == runs[1]
    assert 250 < sum(runs[0]) < 350


def test_a_service_turns_slow_after_its_time(clock: FakeClock) -> None:
    conduct = Conduct(Fault(after=4, delay=0.5), now=clock)
    clock.advance(3.9)
    assert conduct.delay() == 0.0
    clock.advance(0.1)
    assert conduct.delay() == 0.5


def test_a_healthy_service_does_neither() -> None:
    conduct = Conduct(Fault())
    assert (conduct.fails(), conduct.delay()) == (False, 0.0)


async def test_http_service_answers_fails_and_counts(processes: Processes) -> None:
    healthy = await processes.service(MODULE, "http", "--name", "a")
    failing = await processes.service(MODULE, "http", "--fault", "fail:1")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{healthy.address}/users/7") as response:
            assert await response.json() == {"service": "a", "id": "7"}
        async with session.post(f"http://{failing.address}/orders", data=b"{}") as response:
            assert response.status == 503
        async with session.get(f"http://{failing.address}/healthz") as response:
            assert response.status == 200
        async with session.get(f"http://{failing.address}/stats") as response:
            assert await response.json() == {"calls": 1, "failed": 1}


async def test_grpc_service_answers_and_fails(processes: Processes) -> None:
    healthy = await processes.service(MODULE, "grpc", "--name", "a")
    failing = await processes.service(MODULE, "grpc", "--fault", "fail:1")
    async with grpc.aio.insecure_channel(healthy.address) as channel:
        assert await channel.unary_unary("/demo.Users/Get")(b"7") == b"a:7"
        assert [message async for message in channel.unary_stream("/demo.Users/Watch")(b"7")] == [b"a:7"] * 3
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"
    async with grpc.aio.insecure_channel(failing.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/demo.Users/Get")(b"7")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", ["http", "grpc"])
async def test_sigterm_ends_it_and_a_kill_frees_the_port(processes: Processes, kind: str) -> None:
    service = await processes.service(MODULE, kind)
    port = service.port
    await service.restart()
    assert service.port == port
    service.terminate()
    assert await service.exited() == 0


@pytest.mark.parametrize("kind", ["http", "grpc"])
async def test_a_taken_port_is_told(processes: Processes, kind: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        service = Service(MODULE, [kind])
        service.port = holder.getsockname()[1]
        processes.own(service)
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{service.port}"):
            await service.serve()
    assert await service.exited() == 1


def test_it_ends_with_whoever_holds_its_input() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", MODULE, "http"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert str(process.pid) in process.stdout.readline()
            process.stdin.close()
            assert process.wait(10) == 0
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)


async def test_a_line_on_its_input_is_a_new_fault() -> None:
    child = ServiceChild("http", "a", 1)
    await child.serve()
    try:
        async with aiohttp.ClientSession() as session:

            async def until(status: int) -> None:
                async with asyncio.timeout(10):
                    while True:
                        async with session.get(f"http://{child.address}/users/1") as response:
                            if response.status == status:
                                return

            await until(200)
            await child.say("fail:1")
            await until(503)
            await child.say("nonsense")
            await child.say("none")
            await until(200)
    finally:
        await stop_all([child])
