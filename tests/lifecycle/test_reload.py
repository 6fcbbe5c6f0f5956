"""Case 10: reloads under load, good and bad, by every way there is."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.chaos.watching import endpoint, eventually, metrics, watching
from tests.interop.setups import admin, config, session
from tests.lifecycle.load import loaded
from tests.support import faults
from tests.support.fault_server import FaultServer
from tests.support.http_service import HttpService
from tests.support.processes import Processes
from tests.support.sidecar import SidecarProcess, running

RELOADS = 100


class Reloading:
    """A sidecar process whose file is changed in all ways."""

    def __init__(self, sidecar: SidecarProcess, texts: list[str]) -> None:
        self.sidecar = sidecar
        self.texts = texts
        self.client = aiohttp.ClientSession(f"http://{sidecar.addresses['admin']}")
        self.version = 1

    async def config(self) -> Any:
        async with self.client.get("/api/config") as response:
            return await response.json()

    async def post(self) -> tuple[int, Any]:
        async with self.client.post("/api/reload") as response:
            return response.status, await response.json()

    async def until_next(self) -> None:
        """Wait for the next version to be live."""
        self.version += 1
        known: Any = None
        try:
            async with asyncio.timeout(20):
                while True:
                    known = await self.config()
                    if known["version"] == self.version:
                        return
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"version {self.version} is not live: {known}") from None

    @property
    def next_text(self) -> str:
        return self.texts[self.version % len(self.texts)]

    async def by_api(self) -> None:
        self.sidecar.path.write_text(self.next_text)
        assert (await self.post())[0] == 200
        await self.until_next()

    async def by_signal(self) -> None:
        self.sidecar.path.write_text(self.next_text)
        self.sidecar.signal(signal.SIGHUP)
        await self.until_next()

    async def by_file(self) -> None:
        self.sidecar.rewrite(self.next_text)
        await self.until_next()

    async def bad_file(self) -> None:
        """Changes nothing, and says why."""
        self.sidecar.path.write_text(self.next_text.replace("clusters:", "clusterz:"))
        status, answer = await self.post()
        assert status == 422
        assert f"{self.sidecar.path}:" in answer["errors"][0]
        assert "clusterz" in answer["errors"][0]
        known = await self.config()
        assert known["version"] == self.version
        assert known["last_rejected"]["errors"] == answer["errors"]


@pytest.mark.slow
async def test_a_hundred_reloads_under_load_fail_nothing(processes: Processes, tmp_path: Path) -> None:
    # Given a sidecar under load, and two files that differ in policies, routes and endpoints
    async with HttpService(name="a") as one, HttpService(name="b") as other:
        texts = [
            config([one.address, other.address]),
            config(
                [one.address],
                {"retry": {"attempts": 2}, "balance": {"policy": "round_robin"}},
                {"routes": [{"match": {"prefix": "/empty"}, "to": "web", "timeout": "20s"}, {"to": "web"}]},
            ),
        ]
        sidecar = SidecarProcess(tmp_path, texts[0])
        processes.own(sidecar)
        await sidecar.serve()
        reloading = Reloading(sidecar, texts)
        async with reloading.client, loaded(sidecar.url("out", "/empty")) as load:
            # When it is reloaded a hundred times, with bad files between
            ways = [reloading.by_api, reloading.by_signal]
            for number in range(RELOADS):
                await (reloading.by_file if number % 40 == 39 else ways[number % 2])()
                if number % 10 == 0:
                    await reloading.bad_file()
                await load.more(3)
            seen = await metrics(sidecar.addresses["admin"])
            assert seen.total("sidecar_config_reloads_total", result="ok") == RELOADS
            assert seen.total("sidecar_config_reloads_total", result="rejected") >= RELOADS / 10
            assert seen.total("sidecar_config_version") == RELOADS + 1
            load.stop()
    # Then no request failed
    assert load.seen == {"200": load.finished}
    assert load.finished >= RELOADS * 3


async def test_a_configmap_is_followed_through_its_links(processes: Processes, tmp_path: Path) -> None:
    # Given a file as the kubelet mounts it: a link to a folder that is swapped as a whole
    texts = [config(["127.0.0.1:1"], listener={"routes": [{"respond": {"status": 200 + n}}]}) for n in range(3)]
    for number, text in enumerate(texts):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "sidecar.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "sidecar.yaml").symlink_to("..data/sidecar.yaml")
    sidecar = SidecarProcess(tmp_path, texts[0])
    processes.own(sidecar)
    await sidecar.serve()
    reloading = Reloading(sidecar, texts)
    async with reloading.client:
        for number in (1, 2):
            (tmp_path / "..new").symlink_to(f"..{number}")
            (tmp_path / "..new").rename(tmp_path / "..data")
            await reloading.until_next()
            async with aiohttp.ClientSession() as client, client.get(sidecar.url("out", "/")) as response:
                assert response.status == 200 + number


async def test_what_did_not_change_lives_on_and_what_is_gone_goes() -> None:
    async with (
        FaultServer(then=faults.commit_then_reset) as bad,
        FaultServer() as kept,
        FaultServer() as gone,
        FaultServer() as new,
    ):
        cluster = {"breaker": {"consecutive": 2, "open": {"base": "60s"}}, "balance": {"policy": "round_robin"}}
        before = config([bad.address, kept.address, gone.address], cluster)
        after = config([bad.address, kept.address, new.address], cluster | {"retry": {"attempts": 2}})
        async with running(before) as app, session(app) as client:
            # Given an endpoint whose breaker is open, and some traffic
            while endpoint(app).breaker.state == 0:
                async with client.get("/") as response:
                    assert response.status == 200
            old = await metrics(app.address("admin"))
            assert old.has("sidecar_attempts_total", endpoint=gone.address)
            connections = len(kept.connections)
            # When the file changes the endpoints and a policy
            Path(app.path).write_text(after)
            assert await app.reload() == []
            # Then breaker, counters and connections of what stays are as they were
            assert endpoint(app).breaker.state == 2
            seen = await metrics(app.address("admin"))
            for labels in ({"endpoint": kept.address}, {"endpoint": bad.address, "verdict": "failure"}):
                name = "sidecar_attempts_total"
                assert seen.total(name, **labels) == old.total(name, **labels) > 0
            assert seen.total("sidecar_requests_total") == old.total("sidecar_requests_total")
            # And the series of what is gone are gone
            assert {sample.labels.get("endpoint") for sample in seen.samples} == {
                None,
                *(each.address for each in (bad, kept, new)),
            }
            for _ in range(4):
                async with client.get("/") as response:
                    assert response.status == 200
            assert len(kept.connections) == connections
            assert len(new.requests) == 2
            await gone.until(lambda server: server.open_connections == 0)


async def test_listeners_come_and_go(http_service: HttpService) -> None:
    plain: dict[str, Any] = yaml.safe_load(config([http_service.address]))
    more: dict[str, Any] = yaml.safe_load(config([http_service.address]))
    more["listeners"]["extra"] = {"bind": "127.0.0.1:0", "routes": [{"to": "web"}]}
    async with running(yaml.safe_dump(plain)) as app:
        Path(app.path).write_text(yaml.safe_dump(more))
        assert await app.reload() == []
        address = app.address("extra")
        async with session(app, "extra") as client:
            async with client.get("/bytes/3") as response:
                assert response.status == 200
            # A request that is under way when its listener goes is answered to its end,
            # however many reloads come meanwhile.
            async with client.get("/stream?id=s&chunks=2") as response:
                Path(app.path).write_text(yaml.safe_dump(plain))
                assert await app.reload() == []
                plain["clusters"]["web"]["retry"] = {"attempts": 2}
                Path(app.path).write_text(yaml.safe_dump(plain))
                assert await app.reload() == []
                http_service.release("s", 2)
                assert await response.read() == b"chunk 0\nchunk 1\n"
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get("/bytes/3")
        await eventually(lambda: app.runtime.connections["downstream", "http1"] == 0, "its connections are gone")
        with pytest.raises(KeyError):
            app.address("extra")
        # And it can come back, at the very port that it had.
        more["listeners"]["extra"]["bind"] = str(address)
        Path(app.path).write_text(yaml.safe_dump(more))
        assert await app.reload() == []
        async with session(app, "extra") as client, client.get("/bytes/3") as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"listeners": {"out": {"bind": "127.0.0.1:1", "routes": [{"to": "web"}]}}}, "listeners.out.bind"),
        ({"listeners": {"out": {"bind": "127.0.0.1:0", "mode": "forward"}}}, "listeners.out.mode"),
        ({"admin": {"bind": "127.0.0.1:1"}}, "admin.bind"),
        ({"access_log": "stdout"}, "access_log"),
    ],
)
async def test_what_is_fixed_at_the_start_is_refused(
    http_service: HttpService, change: dict[str, Any], key: str
) -> None:
    before = yaml.safe_load(config([http_service.address]))
    async with running(yaml.safe_dump(before)) as app, watching(app) as events, session(app) as client:
        Path(app.path).write_text(yaml.safe_dump(before | change))
        async with session(app, "admin") as asking, asking.post("/api/reload") as response:
            assert response.status == 422
            (error,) = (await response.json())["errors"]
        assert key in error
        assert "restart required" in error
        told = await events.until("reload", result="rejected")
        assert told.fields["errors"] == [error]
        known = await admin(app, "/api/config")
        assert (known["version"], known["last_rejected"]["errors"]) == (1, [error])
        async with client.get("/bytes/3") as response:
            assert response.status == 200
        # The rest of such a file is not taken over either.
        assert (await metrics(app.address("admin"))).total("sidecar_config_reloads_total", result="ok") == 0


async def test_all_that_is_fixed_is_told_with_its_place() -> None:
    text = """\
admin: {{bind: "127.0.0.1:0"}}
clusters:
  u: {{endpoints: ["127.0.0.1:1"], listen: "127.0.0.1:{port}"}}
listeners:
  a: {{bind: "127.0.0.1:{other}", routes: [{{to: u}}]}}
  b: {{mode: {mode}, bind: "127.0.0.1:0", routes: [{{to: u}}]}}
access_log: {log}
"""
    async with running(text.format(port=0, other=0, mode="http", log="off")) as app:
        changed = text.format(port=1, other=2, mode="forward", log="stdout")
        Path(app.path).write_text(changed)
        errors = await app.reload()
    assert errors == [
        f"{app.path}:{place}: changed while running (restart required)"
        for place in (
            "3:43: clusters.u.listen",
            "5:13: listeners.a.bind",
            "6:13: listeners.b.mode",
            "7:13: access_log",
        )
    ]


@pytest.mark.parametrize("bad", ["clusters: [", "", "listeners: {}\nclusters: {}\nx: 1\n", "\x00", "a: &a [*a]"])
async def test_a_broken_file_changes_nothing(http_service: HttpService, bad: str) -> None:
    async with running(config([http_service.address])) as app, session(app) as client:
        Path(app.path).write_text(bad)
        errors = await app.reload()
        assert errors
        assert all(error.startswith(f"{app.path}:") for error in errors)
        Path(app.path).unlink()
        assert await app.reload() != []
        async with client.get("/bytes/3") as response:
            assert response.status == 200
        assert app.runtime.snapshot.version == 1


async def test_a_listener_that_cannot_be_bound_changes_nothing(http_service: HttpService) -> None:
    before: dict[str, Any] = yaml.safe_load(config([http_service.address]))
    async with running(yaml.safe_dump(before)) as app, session(app) as client:
        before["listeners"]["a"] = {"bind": "127.0.0.1:0", "routes": [{"to": "web"}]}
        before["listeners"]["b"] = {"bind": http_service.address, "routes": [{"to": "web"}]}
        before["clusters"]["web"]["retry"] = {"attempts": 1}
        Path(app.path).write_text(yaml.safe_dump(before))
        (error,) = await app.reload()
        assert http_service.address in error
        assert set(app.listeners) == {"out"}
        assert app.runtime.snapshot.version == 1
        async with client.get("/bytes/3") as response:
            assert response.status == 200


async def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(http_service: HttpService) -> None:
    """open(2) waits for one who writes to it, and everybody for us."""
    async with running(config([http_service.address])) as app:
        path = Path(app.path)
        path.unlink()
        os.mkfifo(path)
        assert await app.reload() == [f"{path}:1:1: is no regular file"]
