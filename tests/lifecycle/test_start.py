"""How a process starts: whom it waits for, what it inherits, whom it tells."""

import asyncio
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sidecar.lifecycle import sockets
from sidecar.lifecycle.sockets import Inherited, Offered, from_systemd
from sidecar.lifecycle.systemd import notifications
from sidecar.model.address import Address
from sidecar.wire.listener import BindError
from tests.chaos.watching import eventually
from tests.interop.setups import TIMEOUT, admin, config
from tests.support.http_service import HttpService
from tests.support.processes import ROOT, Processes
from tests.support.sidecar import SidecarProcess, running

# -------------------------------------------------------------------- signals


def interrupted(folder: Path, *numbers: int) -> SidecarProcess:
    """One that gets these signals before it has handlers for them."""
    sent = " ".join(str(int(number)) for number in numbers)
    return SidecarProcess(folder, config(["127.0.0.1:1"]), env={"SIGNALS": sent}, module="tests.support.interrupted")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_that_comes_during_the_start_is_heeded(
    processes: Processes, tmp_path: Path, number: signal.Signals
) -> None:
    sidecar = interrupted(tmp_path, number)
    processes.own(sidecar)
    sidecar.start()
    assert await sidecar.exited() == 0
    sidecar.reap()
    # Then it says why it ends, and has served nothing
    assert [event["event"] for event in sidecar.events] == ["stopping", "stopped"]
    assert sidecar.events[0]["why"] == number.name


async def test_a_hangup_during_the_start_changes_nothing(processes: Processes, tmp_path: Path) -> None:
    sidecar = interrupted(tmp_path, signal.SIGHUP)
    processes.own(sidecar)
    await sidecar.serve()
    sidecar.signal(signal.SIGINT)
    assert await sidecar.exited() == 0


_INIT = ["unshare", "--map-root-user", "--fork", "--pid", "--kill-child"]
_HAS_INIT = (
    shutil.which("unshare") is not None
    and not subprocess.run([*_INIT, "true"], check=False, capture_output=True, timeout=30).returncode
)


@pytest.mark.skipif(not _HAS_INIT, reason="no process namespaces here")
def test_as_process_1_too(tmp_path: Path) -> None:
    """The kernel drops what process 1 has no handler for (pid_namespaces(7))."""
    path = tmp_path / "sidecar.yaml"
    path.write_text(config(["127.0.0.1:1"]))
    done = subprocess.run(
        [*_INIT, sys.executable, "-m", "tests.support.interrupted", "run", "-c", str(path)],
        env=os.environ | {"SIGNALS": str(int(signal.SIGTERM))},
        cwd=ROOT,
        check=False,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["stopping", "stopped"]


async def test_who_is_told_to_stop_at_the_very_end_ends_well(processes: Processes, tmp_path: Path) -> None:
    # Given a sidecar that goes
    sidecar = SidecarProcess(tmp_path, config(["127.0.0.1:1"]))
    processes.own(sidecar)
    await sidecar.serve()
    sidecar.signal(signal.SIGINT)
    # When it is told so again and again until it is gone
    while sidecar.returncode is None:
        sidecar.terminate()
        await asyncio.sleep(0)
    # Then not one of these killed it
    assert sidecar.returncode == 0


# ------------------------------------------------------------------- wait_for


async def _is_ready(app: Any) -> bool:
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as client,
        client.get(f"http://{app.address('admin')}/readyz") as response,
    ):
        return response.status == 200


async def test_readiness_waits_for_a_cluster_that_accepts(http_service: HttpService) -> None:
    # Given a cluster where nobody listens yet
    with socket.socket() as later:
        later.bind(("127.0.0.1", 0))
        text = yaml.safe_load(config([http_service.address], wait_for=["web", "later"]))
        text["clusters"]["later"] = {"endpoints": [f"127.0.0.1:{later.getsockname()[1]}"]}
        async with running(yaml.safe_dump(text)) as app:
            # Then the sidecar serves, and is not ready, and says why
            assert not await _is_ready(app)
            await eventually(
                lambda: app.checks()["wait_for"].message == "no usable endpoint yet: later", "web is there"
            )
            check = (await admin(app, "/readyz"))["checks"]["wait_for"]
            assert (check["status"], check["message"]) == ("failed", "no usable endpoint yet: later")
            # When somebody listens
            later.listen()
            # Then it is ready, and stays so when that goes again
            await eventually(lambda: app.checks()["wait_for"].status == "ok", "later is there")
            assert await _is_ready(app)
    async with running(config([http_service.address])) as app:
        assert "wait_for" not in app.checks()


async def test_a_health_check_has_to_have_passed(http_service: HttpService) -> None:
    """A connection alone is not enough where there is more to ask."""
    check = {"http": {"path": "/status/503"}, "interval": "20ms", "fall": 100}
    text = config([http_service.address], {"health_check": check}, wait_for=["web"])
    async with running(text) as app:
        await eventually(lambda: http_service.calls["/status/503"] >= 3, "it was asked")
        assert not await _is_ready(app)
        Path(app.path).write_text(text.replace("/status/503", "/empty"))
        assert await app.reload() == []
        await eventually(lambda: app.checks()["wait_for"].status == "ok", "it is well")
        assert await _is_ready(app)


async def test_sidecar_wait_returns_when_it_is_ready(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    with socket.socket() as later:
        later.bind(("127.0.0.1", 0))
        sidecar = SidecarProcess(tmp_path, config([f"127.0.0.1:{later.getsockname()[1]}"], wait_for=["web"]))
        processes.own(sidecar)
        await sidecar.serve()
        address = sidecar.addresses["admin"]
        hopeless = processes.start("sidecar", "wait", "--admin", address, "--timeout", "100ms")
        assert await hopeless.exited() == 1
        hopeless.reap()
        assert "not ready within 100ms: wait_for: no usable endpoint yet: web" in hopeless.output
        waiting = processes.start("sidecar", "wait", "--admin", address)
        later.listen()
        assert await waiting.exited() == 0


# -------------------------------------------------------------------- systemd


class Manager:
    """The socket that a service manager listens on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(20)

    async def told(self) -> dict[str, str]:
        data = await asyncio.to_thread(self._socket.recv, 4096)
        return dict(line.split("=", 1) for line in data.decode().splitlines())

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("abstract", [False, True])
async def test_the_service_manager_hears_of_every_change(
    processes: Processes, socket_folder: Path, abstract: bool
) -> None:
    path = socket_folder / "notify.sock"
    manager = Manager(f"@sidecar-{os.getpid()}-{socket_folder.name}" if abstract else str(path))
    sidecar = SidecarProcess(socket_folder, config(["127.0.0.1:1"]), env={"NOTIFY_SOCKET": manager.address})
    processes.own(sidecar)
    await sidecar.serve()
    assert (await manager.told())["READY"] == "1"
    sidecar.signal(signal.SIGHUP)
    reloading = await manager.told()
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert await manager.told() == {"READY": "1", "STATUS": "configuration 1"}
    sidecar.signal(signal.SIGINT)
    assert (await manager.told())["STOPPING"] == "1"
    assert await sidecar.exited() == 0
    manager.close()


async def test_the_watchdog_hears_that_the_loop_turns(processes: Processes, socket_folder: Path) -> None:
    manager = Manager(str(socket_folder / "notify.sock"))
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000"}
    sidecar = SidecarProcess(socket_folder, config(["127.0.0.1:1"]), env=env)
    processes.own(sidecar)
    await sidecar.serve()
    told = [await manager.told() for _ in range(6)]
    assert sum("WATCHDOG" in each for each in told) >= 4
    manager.close()


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "-1"}, {"WATCHDOG_USEC": "100", "WATCHDOG_PID": "1"}],
    ids=str,
)
async def test_without_a_watchdog_nothing_is_said(environment: dict[str, str]) -> None:
    await notifications({"NOTIFY_SOCKET": "/nowhere", **environment}).keep_alive()  # and it ends


def test_no_file_for_a_notification_is_no_error(socket_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: Any) -> Any:
        raise OSError(errno.EMFILE, "no")

    monkeypatch.setattr(socket, "socket", none_left)
    notifications({"NOTIFY_SOCKET": "/nowhere"}).stopping()


async def test_a_takeover_tells_the_new_main_process(processes: Processes, socket_folder: Path) -> None:
    manager = Manager(str(socket_folder / "notify.sock"))
    text = config(["127.0.0.1:1"], takeover=str(socket_folder / "takeover.sock"))
    first = SidecarProcess(socket_folder, text, env={"NOTIFY_SOCKET": manager.address})
    second = SidecarProcess(socket_folder, text)
    for each in (first, second):
        processes.own(each)
        await each.serve()
    told: list[dict[str, str]] = []
    while not told or "STOPPING" not in told[-1]:
        told.append(await manager.told())
    assert [each["MAINPID"] for each in told if "MAINPID" in each] == [str(second.pid)]
    assert await first.exited() == 0
    manager.close()


async def test_sockets_that_systemd_holds_are_taken(
    processes: Processes, tmp_path: Path, http_service: HttpService
) -> None:
    sidecar = SidecarProcess(
        tmp_path,
        config([http_service.address]),
        env={"ACTIVATE": "unknown=127.0.0.1:0 admin=127.0.0.1:0 out=127.0.0.1:0"},
        module="tests.support.activated",
    )
    processes.own(sidecar)
    await sidecar.serve()
    async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
        async with client.get(sidecar.url("out", "/bytes/5")) as response:
            assert response.status == 200
        async with client.get(sidecar.url("admin", "/readyz")) as response:
            assert response.status == 200
    (left,) = [event for event in sidecar.events if event["event"] == "socket_not_taken"]
    assert left["name"] == "unknown"


def test_systemd_is_believed_for_this_process_only() -> None:
    assert from_systemd({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {}) == []
    assert from_systemd({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}, {}) == []
    assert from_systemd({}, {}) == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("datagrams", r"\(out\) is no stream socket \(ListenStream=\)"),
        ("a connection", r"\(out\) is a connection, not what accepts them \(Accept=no\)"),
        ("a pipe", "is no socket"),
    ],
)
def test_what_systemd_passes_and_cannot_accept_is_told(kind: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "a pipe":
        descriptor, other = os.pipe()
    elif kind == "a connection":
        one, two = socket.socketpair()
        descriptor, other = one.detach(), two.detach()
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            descriptor = os.dup(sock.fileno())
        other = os.dup(descriptor)
    monkeypatch.setattr(sockets, "_FIRST", descriptor)
    environment = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "out", "LISTEN_PID": str(os.getpid())}
    with pytest.raises(BindError, match=said):
        from_systemd(environment, {})
    os.close(other)
    if kind == "a pipe":
        os.close(descriptor)


def test_a_socket_is_found_by_name_and_address_or_by_address_alone(tmp_path: Path) -> None:
    # Given what a predecessor offers
    chosen = Address("127.0.0.1", 0)
    fixed = Address("127.0.0.1", 15001)
    sockets = {name: socket.socket() for name in ("a", "b", "c")}
    offered = [
        Offered("a", str(chosen), sockets["a"]),
        Offered("b", str(chosen), sockets["b"]),
        Offered("old name", str(fixed), sockets["c"]),
    ]
    inherited = Inherited(offered)
    # Then a port that the system chose is its listener's alone
    assert inherited.take("x", chosen) is None
    assert inherited.take("b", chosen) is sockets["b"]
    assert inherited.take("b", chosen) is None
    # And a fixed address is whoever's who wants it now
    assert inherited.take("new name", fixed) is sockets["c"]
    assert inherited.take("a", Address("127.0.0.1", 9)) is None
    assert inherited.taken == ["b", "old name"]
    # And what nobody takes is closed
    inherited.close()
    assert sockets["a"].fileno() == -1
    assert sockets["b"].fileno() != -1
    for sock in sockets.values():
        sock.close()
