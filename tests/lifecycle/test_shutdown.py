"""The end of a process: drained in order, in a hurry, or never begun."""

import asyncio
import signal
import socket
import time
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.watching import eventually
from tests.interop.setups import TIMEOUT, config, curl, needs_curl
from tests.lifecycle.load import loaded
from tests.support.http_service import HttpService, pattern
from tests.support.processes import Child, Processes
from tests.support.sidecar import SidecarProcess


async def start(processes: Processes, folder: Path, text: str) -> SidecarProcess:
    sidecar = SidecarProcess(folder, text)
    processes.own(sidecar)
    await sidecar.serve()
    return sidecar


def told_to_stop(child: Child) -> bool | None:
    return any('"stopping"' in line for line in child.stderr) or None


async def ready(sidecar: SidecarProcess) -> int:
    async with aiohttp.ClientSession() as client, client.get(sidecar.url("admin", "/readyz")) as response:
        return response.status


async def test_sigterm_under_load_fails_nothing(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="5s"))
    assert await ready(sidecar) == 200
    async with loaded(sidecar.url("out", "/empty")) as load:
        await load.more(100)
        # When it is told to stop
        sidecar.terminate()
        await sidecar.until(told_to_stop)
        # Then it is not ready any more, and goes on answering
        assert await ready(sidecar) == 503
        await load.more(100)
        load.stop()
    assert load.seen == {"200": load.finished}
    # And when nobody asks any more, it ends well
    assert await sidecar.exited() == 0


async def test_http1_is_asked_to_close_and_a_long_answer_ends_well(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="5s"))
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        async with client.get(sidecar.url("out", "/stream?id=s&chunks=2")) as long:
            assert "connection" not in long.headers
            sidecar.terminate()
            await sidecar.until(told_to_stop)
            async with client.get(sidecar.url("out", "/bytes/5")) as response:
                assert (response.status, response.headers["connection"]) == (200, "close")
            assert sidecar.returncode is None
            http_service.release("s", 2)
            assert await long.read() == b"chunk 0\nchunk 1\n"
        assert await sidecar.exited() == 0


@needs_curl
async def test_http2_gets_goaway_and_its_streams_finish(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    text = config([http_service.address], {"protocol": "http1"}, shutdown="5s")
    sidecar = await start(processes, tmp_path, text)
    url = sidecar.url("out", "/stream?id=s&chunks=2")
    call = asyncio.create_task(curl("--verbose", "--http2-prior-knowledge", url))
    await eventually(lambda: http_service.calls["/stream"] == 1, "the stream is under way")
    sidecar.terminate()
    await sidecar.until(told_to_stop)
    http_service.release("s", 2)
    answer = await call
    assert (answer.exit, answer.body) == (0, b"chunk 0\nchunk 1\n")
    assert await sidecar.exited() == 0


async def test_goaway_is_on_the_wire(processes: Processes, tmp_path: Path, http_service: HttpService) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="5s"))
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port("out"))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    types = [await _frame(reader)]
    assert types == [4]  # SETTINGS
    sidecar.terminate()
    while 7 not in types:
        types.append(await _frame(reader))
    writer.close()
    assert await sidecar.exited() == 0


async def _refusal(response: aiohttp.ClientResponse) -> tuple[int, str | None]:
    async with response:
        return response.status, response.headers.get("x-sidecar-error")


async def _frame(reader: asyncio.StreamReader) -> int:
    head = await reader.readexactly(9)
    await reader.readexactly(int.from_bytes(head[:3], "big"))
    return head[3]


async def test_shutdown_bounds_the_wait(processes: Processes, tmp_path: Path, http_service: HttpService) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="500ms"))
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        call = asyncio.create_task(client.get(sidecar.url("out", "/hang"))._coro)
        await eventually(lambda: http_service.calls["/hang"] == 1, "the call is under way")
        sidecar.terminate()
        # Then what was waited for is ended with a status that says why
        assert await _refusal(await call) == (503, "draining")
        assert await sidecar.exited() == 0


async def test_after_a_drain_by_the_api_shutdown_begins_with_the_signal(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="2s"))
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        async with client.post(sidecar.url("admin", "/api/drain")) as response:
            assert response.status == 200
        assert await ready(sidecar) == 503
        # Longer than `shutdown`: drained is not stopped.
        await asyncio.sleep(2.1)
        async with client.get(sidecar.url("out", "/stream?id=s&chunks=1")) as response:
            sidecar.terminate()
            await sidecar.until(told_to_stop)
            http_service.release("s")
            assert await response.read() == b"chunk 0\n"
    assert await sidecar.exited() == 0


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
async def test_a_second_signal_hurries(
    processes: Processes, tmp_path: Path, http_service: HttpService, signals: tuple[int, int]
) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="300s"))
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        call = asyncio.create_task(client.get(sidecar.url("out", "/hang"))._coro)
        await eventually(lambda: http_service.calls["/hang"] == 1, "the call is under way")
        sidecar.signal(signals[0])
        await sidecar.until(told_to_stop)
        sidecar.signal(signals[1])
        # Then what was waited for is ended with a status that says why
        assert await _refusal(await call) == (503, "draining")
        assert await sidecar.exited() == 0


async def test_sigint_with_idle_clients_ends_at_once(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="300s"))
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        async with client.get(sidecar.url("out", "/bytes/5")) as response:
            assert await response.read() == pattern(5)
        sidecar.signal(signal.SIGINT)
        assert await sidecar.exited() == 0


async def test_a_request_that_is_half_sent_when_it_drains_is_answered(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="5s"))
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port("out"))
    writer.write(b"GET /bytes/5 HTTP/1.1\r\nhost: x\r\n\r\nGET /bytes/7 HT")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert await reader.readexactly(5) == pattern(5)
    sidecar.terminate()
    await sidecar.until(told_to_stop)
    writer.write(b"TP/1.1\r\nhost: x\r\n\r\n")
    rest = await asyncio.wait_for(reader.read(), 10)
    assert rest.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in rest
    assert rest.endswith(pattern(7))
    writer.close()
    assert await sidecar.exited() == 0


async def test_a_slow_reader_gets_its_whole_answer_at_the_end(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    size = 8 << 20
    sidecar = await start(processes, tmp_path, config([http_service.address], shutdown="5s"))
    with socket.socket() as client:
        # Not less: what the kernel has to drop of a segment of 64 KiB it sends again later and later.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", sidecar.port("out")))
        client.sendall(f"GET /bytes/{size} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await eventually(lambda: http_service.calls[f"/bytes/{size}"] == 1, "it is under way")
        sidecar.terminate()
        await sidecar.until(told_to_stop)
        data = await asyncio.to_thread(_read_slowly, client)
    assert data.endswith(pattern(size)[-1000:])
    assert len(data) > size
    assert await sidecar.exited() == 0


def _read_slowly(client: socket.socket) -> bytes:
    client.settimeout(10)
    data = bytearray()
    while piece := client.recv(1 << 16):
        data += piece
        if len(data) % 8 == 0:
            time.sleep(0.001)
    return bytes(data)


# ------------------------------------------------------------- what never began


async def test_a_bad_file_ends_with_2_and_each_error_on_its_line(processes: Processes, tmp_path: Path) -> None:
    bad = config(["127.0.0.1:1", "nowhere"], {"breaker": {"windw": "1s"}}, {"bind": "127.0.0.1:99999"})
    sidecar = SidecarProcess(tmp_path, bad)
    processes.own(sidecar)
    sidecar.start()
    assert await sidecar.exited() == 2
    sidecar.reap()
    errors = [line for line in sidecar.stderr if line.startswith(str(sidecar.path))]
    assert len(errors) == 3, sidecar.output
    for line, what in zip(errors, ("breaker.windw", "endpoints[1]", "out.bind"), strict=True):
        place = line.removeprefix(f"{sidecar.path}:").split(": ")[0]
        assert all(number.isdigit() for number in place.split(":")), line
        assert what in line
    assert "Traceback" not in sidecar.output


async def test_a_taken_port_ends_with_1_and_names_who_holds_it(processes: Processes, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        for bind in ("listener", "admin"):
            text = (
                config(["127.0.0.1:1"], listener={"bind": address})
                if bind == "listener"
                else config(["127.0.0.1:1"], admin={"bind": address})
            )
            sidecar = SidecarProcess(tmp_path, text)
            processes.own(sidecar)
            sidecar.start()
            assert await sidecar.exited() == 1
            sidecar.reap()
            assert any(address in line and "held by" in line for line in sidecar.stderr), sidecar.output
            assert "Traceback" not in sidecar.output


async def test_a_missing_file_ends_with_2(processes: Processes, tmp_path: Path) -> None:
    child = processes.start("sidecar", "run", "-c", str(tmp_path / "none.yaml"))
    assert await child.exited() == 2
    child.reap()
    assert "none.yaml" in child.output
    assert "Traceback" not in child.output
