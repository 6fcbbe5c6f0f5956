"""The demo's children: what went wrong is told, and none is left behind."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.demo import stage as stages
from sidecar.demo.processes import Child, ChildError, ServiceChild, stop_all
from sidecar.demo.scenario import PHASES
from sidecar.demo.stage import Stage, stage


def is_gone(pid: int) -> bool:
    """Whether no process has this id, not even a zombie of ours."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def finish(children: Iterable[Child]) -> None:
    """End them, and see that they are gone."""
    pids = [child.pid for child in children]
    await stop_all(children)
    assert all(map(is_gone, pids))


async def test_a_child_that_ends_at_its_start_is_reported_with_its_last_words() -> None:
    child = Child("the child", ["sidecar.demo.services", "http", "--fault", "nonsense"])
    with pytest.raises(ChildError, match=r"(?s)the child ended with exit code 2 at its start\n.*'nonsense' is none of"):
        await child.start()
    await finish([child])


async def test_a_child_that_never_gets_ready_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.demo.processes._READY_SECONDS", 0.0)
    child = Child("the child", ["sidecar.demo.services", "http"])
    with pytest.raises(ChildError, match="the child was not ready within 0 s"):
        await child.start()
    await finish([child])


async def test_who_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{\"ready\": 1}'); signal.pause()"
    module = tmp_path / "deaf.py"
    module.write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("sidecar.demo.processes._STOP_SECONDS", 0.2)

    class Deaf(Child):
        def is_ready(self, said: dict[str, Any]) -> bool:
            return "ready" in said

    child = Deaf("the deaf one", ["deaf"])
    await child.start()
    await finish([child])


async def test_nothing_that_never_started_is_waited_for() -> None:
    await stop_all([ServiceChild("http", "a", 1)])
    await stop_all([])


async def test_the_stage_plays_its_phases_and_leaves_nobody() -> None:
    pids: list[int] = []
    async with stage() as running:
        pids += [child.pid for child in running.children]
        b, d = (next(child for child in running.named(letter) if child.protocol == "http") for letter in "bd")
        port, first_pid = d.port, d.pid
        by_name = {phase.name: phase for phase in PHASES}
        async with aiohttp.ClientSession() as session:
            await running.enter(by_name["flaky"], by_name["healthy"])
            statuses = [await status(session, b.address) for _ in range(40)]
            assert 503 in statuses
            await running.enter(by_name["slow"], by_name["flaky"])
            assert [await status(session, b.address) for _ in range(10)] == [200] * 10
            await running.enter(by_name["killed"], by_name["slow"])
            assert is_gone(first_pid)
            with pytest.raises(aiohttp.ClientConnectionError):
                await status(session, d.address)
            assert await status(session, running.outbound) == 200
            await running.enter(by_name["back"], by_name["killed"])
            assert (d.port, await status(session, d.address)) == (port, 200)
            async with session.get(f"{running.admin}/readyz") as response:
                assert response.status == 200
        pids.append(d.pid)
        folder = running.config.parent
    assert all(map(is_gone, pids))
    assert not folder.exists()


async def status(session: aiohttp.ClientSession, address: str) -> int:
    async with session.get(f"http://{address}/users/1") as response:
        return response.status


async def test_a_sidecar_that_does_not_start_ends_the_services_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    def broken(*_: Any) -> str:
        pids.extend(service.pid for service in seen[0].services)
        return "clusters: {}\nlisteneers: {}\n"

    seen: list[Stage] = []
    original = Stage.start

    async def start(self: Stage) -> None:
        seen.append(self)
        await original(self)

    monkeypatch.setattr(Stage, "start", start)
    monkeypatch.setattr(stages, "configuration", broken)
    with pytest.raises(ChildError, match=r"(?s)the sidecar ended with exit code 2 .*listeneers: unknown key"):
        async with stage():
            pytest.fail("it started")
    assert len(pids) == 8
    assert all(map(is_gone, pids))


async def test_an_early_end_is_told() -> None:
    child = ServiceChild("http", "a", 1)
    await child.serve()
    ending = asyncio.create_task(child.ended())
    await child.kill()
    assert str(await ending).startswith("http service a ended with exit code -9")
    await finish([child])
