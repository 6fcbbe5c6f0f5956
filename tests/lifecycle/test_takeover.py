"""Zero-downtime upgrade: sockets change hands under load, and nothing is lost.

Case 6 of the reliability cases: callers that reconnect, over takeovers and reloads.
"""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sidecar.lifecycle.channel import Channel, listen
from sidecar.lifecycle.takeover import Predecessor, TakeoverError, claim
from tests.interop.setups import TIMEOUT
from tests.lifecycle.reconnecting import Callers, calling
from tests.support.grpc_service import GrpcService
from tests.support.http_service import HttpService
from tests.support.processes import Child, Processes
from tests.support.sidecar import SidecarProcess

TAKEOVERS = 20


def text(folder: Path, http: str, rpc: str, **changes: Any) -> str:
    """Two clusters, each with a listener, and the admin API on a unix socket."""
    spec: dict[str, Any] = {
        "service": "test",
        "shutdown": "3s",
        "takeover": str(folder / "takeover.sock"),
        "admin": {"bind": f"unix:{folder / 'admin.sock'}"},
        "clusters": {
            "web": {"listen": "127.0.0.1:0", "endpoints": [http]},
            "rpc": {"listen": "127.0.0.1:0", "endpoints": [rpc]},
        },
    }
    return yaml.safe_dump(spec | changes)


class Generations:
    """The same sidecar, again and again."""

    def __init__(self, processes: Processes, folder: Path, config: str) -> None:
        self._processes = processes
        self.folder = folder
        self.config = config
        self.live: SidecarProcess

    def make(self, config: str | None = None, folder: Path | None = None) -> SidecarProcess:
        """One more; in another folder its file is not the one that the live process watches."""
        sidecar = SidecarProcess(folder or self.folder, config or self.config)
        self._processes.own(sidecar)
        return sidecar

    async def first(self) -> SidecarProcess:
        self.live = self.make()
        await self.live.serve()
        return self.live

    async def next(self, config: str | None = None) -> SidecarProcess:
        """A new process takes over, the old one ends well."""
        old, self.live = self.live, self.make(config)
        await self.live.serve()
        await self.live.until(lambda child: said(child, "takeover", state="taken_over"))
        assert await old.exited() == 0, old.output
        return self.live

    async def admin(self, path: str, method: str = "GET") -> tuple[int, Any]:
        connector = aiohttp.UnixConnector(str(self.folder / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as client,
            client.request(method, f"http://localhost{path}") as response,
        ):
            return response.status, await response.json()


def said(child: Child, event: str, **fields: Any) -> dict[str, Any] | None:
    """The first log line of a kind with these fields."""
    for line in child.stderr:
        if line.startswith("{") and json.loads(line).items() >= {"event": event, **fields}.items():
            found: dict[str, Any] = json.loads(line)
            return found
    return None


@pytest.fixture
async def rpc() -> Any:
    async with GrpcService() as service:
        yield service


@pytest.fixture
def generations(processes: Processes, socket_folder: Path, http_service: HttpService, rpc: GrpcService) -> Generations:
    return Generations(processes, socket_folder, text(socket_folder, http_service.address, rpc.address))


def under_load(sidecar: SidecarProcess) -> Any:
    return calling(sidecar.addresses["web"], sidecar.addresses["rpc"])


def assert_none_failed(load: Callers, *, at_least: int) -> None:
    assert load.failed == {}
    for kind in ("http1, new", "http1, kept", "grpc, new", "grpc, kept"):
        assert load.good(kind) >= at_least


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_twenty_takeovers_under_load_fail_nothing(generations: Generations) -> None:
    # Given callers that reconnect for each request, and callers that keep their connections
    first = await generations.first()
    async with under_load(first) as load:
        await load.more(5)
        # When twenty processes follow one another, each on the sockets of the one before
        for _ in range(TAKEOVERS):
            live = await generations.next()
            assert live.addresses == first.addresses
            status, ready = await generations.admin("/readyz")
            assert (status, ready["status"]) == (200, "ok")
            await load.more(5)
        load.stop()
    # Then no request failed
    assert_none_failed(load, at_least=5 * TAKEOVERS)


@pytest.mark.slow
async def test_a_hundred_reloads_under_reconnecting_load_fail_nothing(generations: Generations) -> None:
    first = await generations.first()
    async with under_load(first) as load:
        await load.more(5)
        # When every reload changes clusters, and listeners come and go
        for number in range(100):
            spec = yaml.safe_load(generations.config)
            spec["clusters"]["web"]["retry"] = {"attempts": 1 + number % 3}
            if number % 2:
                spec["listeners"] = {"extra": {"bind": "127.0.0.1:0", "routes": [{"to": "web"}]}}
            first.rewrite(yaml.safe_dump(spec))
            assert (await generations.admin("/api/reload", "POST"))[0] == 200
            if number % 10 == 0:
                await load.more(5)
        load.stop()
    assert_none_failed(load, at_least=50)


def waiting_for(generations: Generations, cluster: socket.socket, **changes: Any) -> str:
    """The configuration of a successor that waits for a cluster, which is at that socket."""
    spec = yaml.safe_load(generations.config)
    spec["clusters"]["later"] = {"endpoints": [f"127.0.0.1:{cluster.getsockname()[1]}"]} | changes
    spec["wait_for"] = ["later"]
    return yaml.safe_dump(spec)


async def test_a_successor_that_is_killed_changes_nothing(generations: Generations) -> None:
    # Given a successor that has the sockets already, and waits for a cluster that is not there
    live = await generations.first()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        async with under_load(live) as load:
            successor = generations.make(waiting_for(generations, nobody))
            successor.start()
            await live.until(lambda child: said(child, "takeover", state="asked"))
            await load.more(5)
            # When it is killed
            successor.kill()
            # Then the old one notes it, and has served all the time
            failed = await live.until(lambda child: said(child, "takeover", state="failed"))
            assert "ended before it was ready" in failed["reason"]
            await load.more(5)
            # And the next one gets what this one did not
            await generations.next(generations.config)
            await load.more(5)
            load.stop()
    assert_none_failed(load, at_least=15)


async def test_who_waits_takes_over_at_once_when_the_old_one_ends(generations: Generations) -> None:
    # Given a successor that waits for its cluster before it accepts
    old = await generations.first()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        generations.live = generations.make(waiting_for(generations, nobody))
        async with under_load(old) as load:
            generations.live.start()
            await old.until(lambda child: said(child, "takeover", state="asked"))
            await load.more(5)
            # When the one before it ends for another reason
            old.signal(signal.SIGTERM)
            # Then it accepts, though it is not ready: nobody else would
            await generations.live.until(lambda child: said(child, "takeover", state="taken_over"))
            assert await old.exited() == 0
            await load.more(5)
            assert (await generations.admin("/readyz"))[0] == 503
            # And can be followed, where it was followed itself
            await generations.next(generations.config)
            await load.more(5)
            load.stop()
    assert_none_failed(load, at_least=15)


async def test_who_waits_accepts_when_the_old_one_is_killed(generations: Generations, tmp_path: Path) -> None:
    # Given a successor that has the sockets, for it asks the cluster that it waits for how it is
    asked = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    old = await generations.first()
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as later:
        checked = waiting_for(generations, later.sockets[0], health_check={"http": {"path": "/"}})
        generations.live = generations.make(checked, tmp_path)
        generations.live.start()
        await asyncio.wait_for(asked.wait(), 30)
        # When the one before it is killed, then it accepts
        old.kill()
        await generations.live.until(lambda child: said(child, "takeover", state="taken_over"))
        async with under_load(old) as load:
            await load.more(5)
            await generations.next(generations.config)
            await load.more(5)
            load.stop()
    assert_none_failed(load, at_least=10)


async def test_an_end_behind_go_is_not_told(socket_folder: Path) -> None:
    # Given a predecessor that has said go, and ends before its successor serves
    path = str(socket_folder / "takeover.sock")
    states: list[str] = []
    handed: list[int] = []
    predecessor = Predecessor("1", list, lambda state, _: states.append(state), lambda pid, names: handed.append(pid))
    predecessor.open(path)
    successor = await claim(path, "2")
    assert successor is not None
    with successor.own:
        assert await successor.may_go()
        ending = asyncio.ensure_future(predecessor.end())
        await asyncio.sleep(0)
        # When the successor serves, and hangs up
        await successor.serving([])
        await ending
        await predecessor.close()
    # Then that was heard
    assert (states, handed) == (["asked", "handed_over"], [os.getpid()])
    assert Path(path).exists()


async def test_who_was_refused_while_it_waited_does_not_take_over(socket_folder: Path) -> None:
    # Given a predecessor that has handed its sockets to us
    path = str(socket_folder / "takeover.sock")
    with listen(path) as own:
        claiming = asyncio.ensure_future(claim(path, "2"))
        sock, _ = await asyncio.get_running_loop().sock_accept(own)
        before = Channel(sock)
        assert await before.receive(10) is not None
        greeting = {"protocol": 1, "version": "1", "sockets": [["", path]], "more": False}
        await before.send(greeting, [own.fileno()])
        successor = await claiming
        assert successor is not None
        with successor.own:
            # When it says that this takes too long, and hangs up
            await before.send({"refused": "it took too long"})
            before.close()
            await successor.ending()
            # Then it goes on, and we do not
            with pytest.raises(TakeoverError, match="does not hand over: it took too long"):
                await successor.may_go()
            successor.close()


@pytest.mark.parametrize("when", ["before it accepts", "before it answers", "with half of its sockets given"])
async def test_who_ends_before_it_has_given_its_sockets_was_never_there(socket_folder: Path, when: str) -> None:
    # Given a predecessor that is asked for its sockets
    path = str(socket_folder / "takeover.sock")
    own = listen(path)
    claiming = asyncio.ensure_future(claim(path, "2"))
    if when == "before it accepts":
        await asyncio.sleep(0)  # it has connected, and waits
    else:
        sock, _ = await asyncio.get_running_loop().sock_accept(own)
        before = Channel(sock)
        assert await before.receive(10) is not None
        if when == "with half of its sockets given":
            await before.send({"protocol": 1, "version": "1", "sockets": [["", path]], "more": True}, [own.fileno()])
        before.close()
    # When it ends as if killed, and leaves its path behind
    own.close()
    # Then there is nobody to take over from
    assert await claiming is None
    assert Path(path).exists()


async def test_who_hangs_up_again_and_again_is_there_all_the_same(socket_folder: Path) -> None:
    path = str(socket_folder / "takeover.sock")
    with listen(path) as own:
        claiming = asyncio.ensure_future(claim(path, "2"))
        while not claiming.done():
            accepting = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(own))
            await asyncio.wait({claiming, accepting}, return_when=asyncio.FIRST_COMPLETED)
            if accepting.done():
                accepting.result()[0].close()
            else:
                accepting.cancel()
        with pytest.raises(TakeoverError, match=f"process {os.getpid()} hung up"):
            await claiming


async def test_a_successor_with_a_bad_file_asks_for_nothing(generations: Generations) -> None:
    live = await generations.first()
    successor = generations.make(generations.config.replace("listen:", "lisen:"))
    successor.start()
    assert await successor.exited() == 2
    assert said(live, "takeover") is None
    assert (await generations.admin("/readyz"))[0] == 200


async def test_a_successor_that_cannot_bind_the_rest_gives_up(generations: Generations) -> None:
    live = await generations.first()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        more = yaml.safe_load(generations.config)
        more["clusters"]["web2"] = {
            "listen": f"127.0.0.1:{taken.getsockname()[1]}",
            "endpoints": ["127.0.0.1:1"],
        }
        successor = generations.make(yaml.safe_dump(more))
        successor.start()
        assert await successor.exited() == 1
    assert any("cannot listen" in line for line in successor.stderr), successor.output
    await live.until(lambda child: said(child, "takeover", state="failed"))
    # The unix sockets that it held for a moment are still the old one's.
    assert (await generations.admin("/readyz"))[0] == 200


async def test_another_protocol_is_told_so(generations: Generations) -> None:
    live = await generations.first()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.settimeout(10)
        stranger.connect(str(generations.folder / "takeover.sock"))
        stranger.send(json.dumps({"protocol": 99, "version": "9.9"}).encode())
        answer = json.loads(await asyncio.to_thread(stranger.recv, 65536))
    assert answer["refused"] == "version 9.9 speaks protocol 99, not 1"
    assert answer["protocol"] == 1
    assert (await live.until(lambda child: said(child, "takeover", state="failed")))["pid"] == os.getpid()


@pytest.mark.parametrize("noise", [b"", b"\xff\xfe", b"[]", b"1", b'{"protocol": 1, "version": []}'])
async def test_noise_changes_nothing(generations: Generations, noise: bytes) -> None:
    await generations.first()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(generations.folder / "takeover.sock"))
        if noise:
            stranger.send(noise)
    await generations.next()


async def test_only_our_own_user_may_ask(generations: Generations) -> None:
    await generations.first()
    path = generations.folder / "takeover.sock"
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_a_crash_left_behind_is_no_predecessor(generations: Generations) -> None:
    live = await generations.first()
    live.kill()
    assert (generations.folder / "takeover.sock").is_socket()
    fresh = generations.make()
    await fresh.serve()
    assert said(fresh, "takeover") is None
    # And the end of the last one leaves nothing.
    fresh.signal(signal.SIGINT)
    assert await fresh.exited() == 0
    assert not (generations.folder / "takeover.sock").exists()
    assert not (generations.folder / "admin.sock").exists()


async def test_streams_of_the_old_one_finish_there(generations: Generations, http_service: HttpService) -> None:
    first = await generations.first()
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        async with client.get(first.url("web", "/stream?id=s&chunks=2")) as long:
            successor = generations.make()
            await successor.serve()
            async with client.get(first.url("web", "/bytes/5")) as response:
                assert response.status == 200
            http_service.release("s", 2)
            assert await long.read() == b"chunk 0\nchunk 1\n"
        assert await first.exited() == 0


async def test_a_listener_that_the_successor_does_not_have_is_gone(generations: Generations) -> None:
    path = generations.folder / "extra.sock"
    more = yaml.safe_load(generations.config)
    more["listeners"] = {"extra": {"bind": f"unix:{path}", "routes": [{"to": "web"}]}}
    generations.config, less = yaml.safe_dump(more), generations.config
    await generations.first()
    assert path.is_socket()
    await generations.next()
    assert path.is_socket()  # handed over, and not removed by the one that ended
    await generations.next(less)
    assert not path.exists()
