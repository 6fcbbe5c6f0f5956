"""A sidecar with 64 files, and 200 clients: no spin, no flood in the log, the admin server
answers, who was let in is served, the others are told, and all is well when they have gone."""

import asyncio
import os
import resource
from pathlib import Path

import aiohttp
import pytest

from sidecar.overload.memory import resident
from tests.chaos.watching import Metrics, metrics
from tests.support.bystander import Bystander
from tests.support.http_service import HttpService
from tests.support.open_loop import NOISE
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

FILES = 64
CLIENTS = 200
# Of one second: a loop that asks accept(2) again at once takes nearly all of it.
MOST_CPU = 0.3
WITHIN = 15.0

GET = b"GET /bytes/5 HTTP/1.1\r\nhost: a\r\n\r\n"


class Client:
    """One connection. `ask` gives the status of the answer, 0 when the connection ends without one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""

    @classmethod
    async def connect(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self) -> int:
        try:
            self.writer.write(GET)
            self.head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in self.head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await self.reader.readexactly(int(length.partition(b":")[2]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        return int(self.head[9:12])

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


async def sidecar_with(processes: Processes, folder: Path, service: HttpService, files: int = FILES) -> SidecarProcess:
    config = f"""
admin: {{bind: 127.0.0.1:0}}
clusters:
  web: {{listen: 127.0.0.1:0, endpoints: ["{service.address}"]}}
"""
    sidecar = SidecarProcess(folder, config, env={"TEST_OPEN_FILES": str(files)}, module="tests.support.limited")
    processes.own(sidecar)
    await sidecar.serve()
    return sidecar


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def scrape(sidecar: SidecarProcess) -> Metrics:
    async with asyncio.timeout(WITHIN):
        return await metrics(sidecar.addresses["admin"])


async def nobody_left(sidecar: SidecarProcess) -> None:
    """Wait until the sidecar has seen them go."""
    for _ in range(200):
        if not (await scrape(sidecar)).total("sidecar_connections", side="downstream"):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("clients are still there")


async def test_200_clients_and_64_files(processes: Processes, tmp_path: Path, http_service: HttpService) -> None:
    sidecar = await sidecar_with(processes, tmp_path, http_service)
    ceiling = int((await scrape(sidecar)).total("sidecar_client_connections_limit"))
    assert 10 <= ceiling <= FILES // 2
    port = sidecar.port("web")

    memory = resident(f"/proc/{sidecar.pid}/statm")
    # When they all come at once, each of them gets an answer.
    clients = await asyncio.gather(*(Client.connect(port) for _ in range(CLIENTS)))
    async with asyncio.timeout(WITHIN):
        statuses = await asyncio.gather(*(client.ask() for client in clients))
    assert sorted({*statuses}) == [200, 503]
    served = [client for client, status in zip(clients, statuses, strict=True) if status == 200]
    refused = [client for client, status in zip(clients, statuses, strict=True) if status == 503]
    assert len(served) >= ceiling
    assert all(b"x-sidecar-error: overloaded" in client.head for client in refused)
    assert all(b"connection: close" in client.head for client in refused)

    # Then nothing spins and nothing floods the log, and who was let in is served on.
    before = cpu_seconds(sidecar.pid)
    late = await asyncio.gather(*(Client.connect(port) for _ in range(CLIENTS)))  # and these say nothing
    await asyncio.sleep(1.0)
    assert cpu_seconds(sidecar.pid) - before < MOST_CPU
    now = await scrape(sidecar)
    assert now.total("sidecar_connections_refused_total", reason="ceiling") >= len(refused)
    assert now.total("sidecar_open_files") <= FILES
    assert now.total("sidecar_open_files_limit") == FILES
    assert len(sidecar.stderr) < 30
    assert resident(f"/proc/{sidecar.pid}/statm") - memory < 50 << 20
    # Clients that are idle for more than a second are closed to make room; the others stay.
    again = await asyncio.gather(*(client.ask() for client in served))
    assert {*again} <= {200, 0}

    # When they have gone, everybody is let in again, and the configuration can be read anew.
    for client in (*clients, *late):
        await client.close()
    async with asyncio.timeout(WITHIN):
        await nobody_left(sidecar)
        for number in range(CLIENTS):
            client = await Client.connect(port)
            while not number and await client.ask() != 200:  # the files are looked at now and then
                await client.close()
                await asyncio.sleep(0.05)
                client = await Client.connect(port)
            assert await client.ask() == 200
            await client.close()
        async with aiohttp.ClientSession() as admin:
            async with admin.post(sidecar.url("admin", "/api/reload")) as response:
                assert response.status == 200
            async with admin.get(sidecar.url("admin", "/readyz")) as response:
                assert (await response.json())["checks"]["overload"]["status"] == "ok"


async def _beside(processes: Processes, folder: Path, service: HttpService, seconds: float, *, timed: bool) -> None:
    """A client that is connected already and asks all the time, beside 200 that come again every second.

    `timed` says whether its times count: on a machine that others use as well, they are theirs.
    """
    sidecar = await sidecar_with(processes, folder, service)
    port = sidecar.port("web")
    memory = resident(f"/proc/{sidecar.pid}/statm")

    async def come_again(number: int) -> None:
        await asyncio.sleep(number / CLIENTS)
        while True:
            client = await Client.connect(port)
            try:
                await client.ask()
                await asyncio.sleep(1.0)
            finally:
                client.writer.close()

    bystander = Bystander(port, b"/bytes/100")
    alone = await bystander.p99(seconds / 2)
    crowd = [asyncio.create_task(come_again(number)) for number in range(CLIENTS)]
    beside = await bystander.p99(seconds)
    for each in crowd:
        each.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    bystander.close()
    assert (bystander.failed, bystander.dialled) == (0, 1)
    assert not timed or beside <= max(NOISE, 2 * alone)
    assert resident(f"/proc/{sidecar.pid}/statm") - memory < 50 << 20
    assert (await scrape(sidecar)).total("sidecar_connections_refused_total", reason="ceiling") > CLIENTS


async def test_who_is_connected_already_hardly_notices(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    await _beside(processes, tmp_path, http_service, 3.0, timed=False)


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_who_is_connected_already_hardly_notices_for_a_minute(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    await _beside(processes, tmp_path, http_service, 60.0, timed=True)


async def test_requests_of_those_let_in_work_while_others_wait(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    """Files for the connections to endpoints are kept, though each request needs one."""
    sidecar = await sidecar_with(processes, tmp_path, http_service)
    ceiling = int((await scrape(sidecar)).total("sidecar_client_connections_limit"))
    clients = [await Client.connect(sidecar.port("web")) for _ in range(ceiling)]
    silent = [await Client.connect(sidecar.port("web")) for _ in range(CLIENTS)]
    async with asyncio.timeout(WITHIN):
        for _ in range(5):
            assert {*await asyncio.gather(*(client.ask() for client in clients))} == {200}
    now = await scrape(sidecar)
    assert now.total("sidecar_attempts_total", verdict="failure") == 0
    assert now.total("sidecar_accept_errors_total") == 0
    for client in (*clients, *silent):
        await client.close()


@pytest.mark.parametrize("files", [64, 256])
async def test_the_limit_is_told_and_derived(
    files: int, processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = await sidecar_with(processes, tmp_path, http_service, files)
    told = next(event for event in sidecar.events if event["event"] == "limits")
    assert told["open_files"] == files
    assert files // 5 <= told["client_connections"] <= files // 2
    soft, hard = resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE)
    assert (soft, hard) == (files, files)
