"""Ten times what an endpoint can serve: a bystander on another cluster hardly notices, memory
does not grow, and afterwards all is as before. And memory that runs out, by an injected limit."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from sidecar.overload import memory
from sidecar.policy.pressure import REFUSE
from tests.chaos.watching import Watch, eventually, metrics
from tests.support.http_service import HttpService
from tests.support.open_loop import NOISE, OpenLoop, p99
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess, running

CAPACITY = 50.0  # two workers, 40 ms each
LIMIT = 30  # what the endpoint works off in little more than half a second
BYSTANDER = 50.0
SECONDS = 4.0
MIB = 1 << 20


def resident(pid: int) -> int:
    return memory.resident(f"/proc/{pid}/statm")


async def tenfold(processes: Processes, folder: Path, service: HttpService, seconds: float, *, timed: bool) -> None:
    """`timed` says whether the bystander's times count: on a machine that others use as well, they are theirs."""
    busy = await processes.service("tests.support.queue_service", "--workers", "2", "--milliseconds", "40")
    config = f"""
admin: {{bind: 127.0.0.1:0}}
clusters:
  busy: {{listen: 127.0.0.1:0, endpoints: ["127.0.0.1:{busy.port}"], limits: {{requests: {LIMIT}}}}}
  calm: {{listen: 127.0.0.1:0, endpoints: ["{service.address}"]}}
"""
    sidecar = SidecarProcess(folder, config)
    processes.own(sidecar)
    await sidecar.serve()
    async with (
        OpenLoop("127.0.0.1", sidecar.port("calm"), patience=5.0) as bystander,
        OpenLoop("127.0.0.1", sidecar.port("busy"), patience=1.0) as crowd,
    ):
        await bystander.run(BYSTANDER, 2.0)
        await bystander.settle()
        alone, bystander.requests = bystander.requests, []
        before = resident(sidecar.pid)

        await _together(bystander, crowd, seconds)

        assert all(request.statuses == [404] for request in bystander.requests), "the service has no page at /"
        assert not timed or p99(bystander.requests) <= max(NOISE, 2 * p99(alone))
        assert resident(sidecar.pid) - before < 50 * MIB
        served = sum(request.served for request in crowd.requests)
        assert served < len(crowd.requests) / 2, "it was no overload"

        # It is over: who asks now is served, from five seconds on at the latest.
        crowd.requests = []
        await crowd.run(CAPACITY / 2, 6.0)
        await crowd.settle()
        late = crowd.requests[round(5 * CAPACITY / 2) :]
        assert all(request.served for request in late)
    now = await metrics(sidecar.addresses["admin"])
    assert now.total("sidecar_requests_in_flight") == 0
    assert now.total("sidecar_overload_level") == 0


async def _together(bystander: OpenLoop, crowd: OpenLoop, seconds: float) -> None:
    await asyncio.gather(bystander.run(BYSTANDER, seconds), crowd.run(10 * CAPACITY, seconds))
    await asyncio.gather(bystander.settle(), crowd.settle())


async def test_ten_times_what_an_endpoint_can_serve(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    await tenfold(processes, tmp_path, http_service, SECONDS, timed=False)


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_ten_times_what_an_endpoint_can_serve_for_a_minute(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    await tenfold(processes, tmp_path, http_service, 60.0, timed=True)


MEMORY = """
admin: {bind: 127.0.0.1:0}
overload: {memory: {limit: %s}}
clusters:
  web: {endpoints: ["%s"]}
listeners:
  in: {bind: 127.0.0.1:0, routes: [{to: web}]}
"""


async def test_memory_that_runs_out_sheds_refuses_and_recovers(http_service: HttpService, tmp_path: Path) -> None:
    plenty = MEMORY % ("8GiB", http_service.address)
    async with running(plenty) as app, aiohttp.ClientSession(f"http://{app.address('in')}") as client:
        watch = Watch(app)
        async with client.get("/echo") as response:
            assert response.status == 200

        # A limit that is used up already, as another configuration.
        Path(app.path).write_text(MEMORY % ("1MiB", http_service.address))
        assert await app.reload() == []
        while app.runtime.pressure != REFUSE:  # a connection that is not idle, which would be closed
            async with client.get("/echo", headers={"x-sidecar-priority": "critical"}) as response:
                assert response.status == 200
        event = await watch.until("overload", step="refuse", resource="memory")
        assert event.fields["level"] == REFUSE

        # On a connection that is there: critical requests get through, others do not.
        for priority, status in (("critical", 200), ("default", 503), ("sheddable", 503)):
            async with client.get("/echo", headers={"x-sidecar-priority": priority}) as response:
                assert response.status == status
                if status == 503:
                    assert response.headers["x-sidecar-error"] == "overloaded"
        # A new one is refused.
        async with aiohttp.ClientSession(f"http://{app.address('in')}") as other, other.get("/echo") as response:
            assert (response.status, response.headers["x-sidecar-error"]) == (503, "overloaded")
            assert response.headers["connection"] == "close"
        ready = f"http://{app.address('admin')}/readyz"
        async with aiohttp.ClientSession() as admin, admin.get(ready) as response:
            assert response.status == 200, "were all copies short, nobody would be served at all"
            assert (await response.json())["checks"]["overload"]["status"] == "warn"
        told = await metrics(app.address("admin"))
        assert told.total("sidecar_overload_level") == REFUSE
        assert told.total("sidecar_overload_pressure", resource="memory") > 1.0
        assert told.total("sidecar_memory_limit_bytes") == MIB
        assert told.total("sidecar_connections_refused_total", reason="pressure") == 1
        assert told.total("sidecar_requests_shed_total", by="pressure") == 2

        Path(app.path).write_text(plenty)
        assert await app.reload() == []
        await eventually(lambda: app.runtime.pressure == 0, "well again")
        async with aiohttp.ClientSession(f"http://{app.address('in')}") as other, other.get("/echo") as response:
            assert response.status == 200
