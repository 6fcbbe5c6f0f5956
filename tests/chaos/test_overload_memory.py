"""A sidecar with little memory, and clients that take it faster than it is looked at by the clock."""

import asyncio
from pathlib import Path

import aiohttp

from sidecar.policy.pressure import WELL
from tests.chaos.test_overload_lag import level
from tests.chaos.watching import metrics
from tests.support.http_service import HttpService
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess

MIB = 1 << 20
ROOM = 32 * MIB
CLIENTS = 900
# Nearly what a head may have, and no end.
HEAD = b"GET /bytes/5 HTTP/1.1\r\nhost: a\r\n" + b"".join(b"x-%d: %b\r\n" % (i, b"x" * 1000) for i in range(60))


def text(service: HttpService, limit: int) -> str:
    return f"""
admin: {{bind: 127.0.0.1:0}}
overload: {{memory: {{limit: {limit}}}}}
clusters:
  web: {{listen: 127.0.0.1:0, endpoints: ["{service.address}"]}}
"""


async def send_head(port: int) -> asyncio.StreamWriter | None:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD)
    except OSError:
        return None
    return writer


def most_resident(pid: int) -> int:
    """The most memory that the process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


async def test_heads_that_never_end_do_not_take_all_memory(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = SidecarProcess(tmp_path, text(http_service, 1024 * MIB))
    processes.own(sidecar)
    await sidecar.serve()
    # Given little more memory than it has now
    limit = int((await metrics(sidecar.addresses["admin"])).total("process_resident_memory_bytes")) + ROOM
    sidecar.rewrite(text(http_service, limit))
    async with aiohttp.ClientSession(sidecar.url("admin")) as client, client.post("/api/reload") as response:
        assert response.status == 200
    # When much more than that is sent at once
    assert CLIENTS * len(HEAD) > 1.5 * ROOM
    port = sidecar.port("web")
    clients = await asyncio.gather(*(send_head(port) for _ in range(CLIENTS)))
    # Then it is let go of in time
    await sidecar.until(lambda _: any(event.get("step") == "refuse" for event in sidecar.events) or None)
    assert most_resident(sidecar.pid) < limit
    for writer in clients:
        if writer is not None:
            writer.transport.abort()  # with what could not be sent
    # And all is well when they have gone
    await level(sidecar, WELL)
    async with aiohttp.ClientSession(sidecar.url("web")) as client, client.get("/bytes/5") as response:
        assert response.status == 200
    assert most_resident(sidecar.pid) < limit
