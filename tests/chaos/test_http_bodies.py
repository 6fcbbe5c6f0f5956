"""Bodies in both directions when one side is slow, leaves, or dies."""

import asyncio
import io
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.watching import Leftovers, endpoint, eventually, metrics
from tests.interop.setups import QUICK, TIMEOUT, config, session
from tests.support import faults
from tests.support.fault_server import Exchange, FaultServer
from tests.support.http_service import HttpService, pattern
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess, running

MIB = 1 << 20
BIG = 256 * MIB


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_slow_reader_bounds_our_memory_and_slows_the_writer(processes: Processes, tmp_path: Path) -> None:
    written = 0

    async def endless(exchange: Exchange) -> None:
        nonlocal written
        await exchange.request()
        await exchange.send_head(200, None, BIG)
        while written < BIG:
            await exchange.send_data(bytes(MIB))
            written += MIB

    async with FaultServer(endless, endless) as server:
        sidecar = SidecarProcess(tmp_path, config([server.address]))
        processes.own(sidecar)
        await sidecar.serve()
        before = resident(sidecar.pid)
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, read_bufsize=1024) as client,
            client.get(sidecar.url("out", "/")) as response,
        ):
            # When the client reads next to nothing, the writer comes to a stand
            last = -1
            while last != written:
                last = written
                await asyncio.sleep(0.2)
            # Then what was written is in kernel buffers, for the greatest part
            assert written < 64 * MIB
            assert resident(sidecar.pid) - before < 16 * MIB
            # And when it reads on, everything comes
            total = 0
            async for chunk in response.content.iter_any():
                total += len(chunk)
            assert total == BIG
        assert resident(sidecar.pid) - before < 16 * MIB


async def test_a_service_that_reads_slowly_slows_the_uploader(processes: Processes, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.head()
        exchange.connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go_on.wait()
        exchange.connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await exchange.request()
        await exchange.send_head(200, None, 2)
        await exchange.send_data(b"ok", end=True)

    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            yield bytes(MIB)
            sent += 1

    async with FaultServer(slow) as server:
        sidecar = SidecarProcess(tmp_path, config([server.address]))
        processes.own(sidecar)
        await sidecar.serve()
        before = resident(sidecar.pid)
        async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
            call = asyncio.create_task(client.put(sidecar.url("out", "/"), data=pieces())._coro)
            last = -1
            while last != sent or not sent:
                last = sent
                await asyncio.sleep(0.2)
            assert sent < 40
            assert resident(sidecar.pid) - before < 16 * MIB
            go_on.set()
            async with await call as response:
                assert (response.status, sent) == (200, 64)
        assert len(server.requests[0].body) == 64 * MIB


async def test_a_client_that_leaves_mid_download_closes_the_upstream() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.send_head(200, None, None)
        while True:
            await exchange.send_data(bytes(65536))

    async with FaultServer(endless, endless) as server, running(config([server.address])) as app:
        for number in (1, 2):
            async with session(app) as client:
                response = await client.get("/")
                await response.content.readexactly(MIB)
                response.close()
            await server.until(lambda server, number=number: server.deserted == number)  # type: ignore[misc]
        await eventually(lambda: app.runtime.in_flight == 0, "the exchange is over")
        # It was the client's doing: the endpoint is not blamed.
        assert (endpoint(app).verdicts[2], endpoint(app).breaker.state) == (2, 0)


async def test_a_client_that_leaves_mid_upload_closes_the_upstream() -> None:
    async with FaultServer(faults.stall) as server, running(config([server.address])) as app:
        _, writer = await asyncio.open_connection(app.address("out").host, app.address("out").port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nbegin")
        await server.until(lambda server: len(server.heads) == 1)
        writer.transport.abort()
        await server.until(lambda server: server.deserted == 1)
        assert server.requests == []
        await eventually(lambda: app.runtime.in_flight == 0, "the exchange is over")


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("length", [1000, None])
async def test_a_service_that_dies_mid_body_is_no_clean_end(end: str, length: int | None) -> None:
    async with (
        FaultServer(then=faults.partial_body(b"part", length, end)) as server,
        running(config([server.address], {"retry": dict(QUICK)})) as app,
        session(app) as client,
    ):
        # aiohttp repeats a GET by itself when its connection breaks before the head.
        async with client.get("/") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert len(server.requests) == 1
        seen = await metrics(app.address("admin"))
        assert seen.total("sidecar_attempts_total", cluster="web", verdict="failure") == 1


async def test_an_early_answer_to_a_big_upload_reaches_the_client() -> None:
    async with (
        FaultServer(faults.early_answer(413), then=faults.ok) as server,
        running(config([server.address])) as app,
        session(app) as client,
    ):
        async with client.post("/", data=io.BytesIO(bytes(8 * MIB))) as response:
            assert (response.status, await response.read()) == (413, b"too much")
        async with client.post("/", data=b"x") as response:
            assert response.status == 200
        assert [len(request.body) for request in server.requests] == [1]


async def test_one_cancelled_call_then_a_thousand_good_ones(http_service: HttpService) -> None:
    # Case 7
    async with running(config([http_service.address])) as app, session(app) as client:
        async with client.get("/echo") as response:
            assert response.status == 200
        before = Leftovers.of(app)
        call = asyncio.create_task(client.get("/hang")._coro)
        await eventually(lambda: http_service.calls["/hang"] == 1, "the call is under way")
        call.cancel()
        await eventually(lambda: http_service.cancelled == 1, "the service sees that nobody waits")
        for _ in range(1000):
            async with client.post("/bytes/100", data=b"x") as response:
                assert await response.read() == pattern(100)
        await eventually(lambda: Leftovers.of(app) == before, f"{before} again")
