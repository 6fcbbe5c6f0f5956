"""A proxy as a process: started for a plan, reloaded, asked what it takes, ended."""

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.reliability import texts
from benchmarks.reliability.plan import Plan

_READY_SECONDS = 20.0
_STOP_SECONDS = 10.0


class Proxy:
    """One of them, not started yet: `started` gives a running one."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        text: Callable[[Plan, Path], str],
        file: str,
        reload_signal: int = signal.SIGHUP,
    ) -> None:
        self.name = name
        self._command = command
        self._text = text
        self._file = file
        self._reload_signal = reload_signal

    @property
    def installed(self) -> bool:
        """Whether its program is there."""
        return shutil.which(self._command[0]) is not None

    @asynccontextmanager
    async def started(
        self, endpoints: Sequence[str], files: int = 0, limited: bool = False, budget: bool = False, patience: int = 0
    ) -> AsyncIterator["Running"]:
        """Until the end of the block; with `files` as the limit on open ones, if not 0."""
        with tempfile.TemporaryDirectory(prefix="reliability-") as name, socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            folder = Path(name)
            plan = Plan(port, endpoints, limited, budget, files, patience)
            self.write(plan, folder)
            options = self._command
            if files and self.name == "haproxy":
                # Its master wants more files than that.
                options = ["-db" if part == "-W" else part for part in options]
            command = [part.format(folder=folder, file=folder / self._file) for part in options]
            process = _start(command, folder / "output", files)
            running = Running(self, process, plan, folder)
            try:
                await running.until_it_listens()
                yield running
            finally:
                running.stop()

    def write(self, plan: Plan, folder: Path) -> None:
        """Its files, each in one step."""
        parts = {self._file: self._text(plan, folder)}
        if self.name == "envoy":
            parts["listener.json"] = texts.envoy_listener(plan)
        for name, text in parts.items():
            fresh = folder / f"{name}.new"
            fresh.write_text(text)
            fresh.rename(folder / name)

    def ask_to_reload(self, process: "subprocess.Popen[bytes]") -> None:
        """Envoy watches its file."""
        if self.name != "envoy":
            process.send_signal(self._reload_signal)


def _start(command: Sequence[str], output: Path, files: int) -> "subprocess.Popen[bytes]":
    with output.open("wb") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=partial(_limit_files, files) if files else None,
        )


def _limit_files(files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


class Running:
    """A process that listens on `port`."""

    def __init__(self, proxy: Proxy, process: "subprocess.Popen[bytes]", plan: Plan, folder: Path) -> None:
        self.port = plan.port
        self._proxy = proxy
        self._process = process
        self._plan = plan
        self._folder = folder

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    async def until_it_listens(self) -> None:
        """RuntimeError with what it printed when it does not."""
        for _ in range(int(_READY_SECONDS / 0.05)):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if not self.alive:
                    break
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise RuntimeError(f"{self._proxy.name} does not listen: {(self._folder / 'output').read_text()[-2000:]}")

    def reload(self) -> None:
        """Another configuration."""
        self._plan = replace(self._plan, version=self._plan.version + 1)
        self._proxy.write(self._plan, self._folder)
        self._proxy.ask_to_reload(self._process)

    def cpu_seconds(self) -> float:
        """User and system time of the process and all that it started."""
        ticks = 0
        for pid in _tree(self._process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        """Memory of the same."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _tree(self._process.pid))
        return pages * resource.getpagesize() / (1 << 20)

    def stop(self) -> None:
        """SIGKILL to all of it: nobody waits for its end."""
        pids = _tree(self._process.pid)
        for pid in reversed(pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait(_STOP_SECONDS)


def _tree(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += _tree(int(child))
    except (FileNotFoundError, ProcessLookupError):
        return found
    return found


def all_of_them(envoy: str) -> Mapping[str, Proxy]:
    """By name; `envoy` is where its program is."""
    run = [sys.executable, "-m", "sidecar", "run", "-c", "{file}"]
    return {
        proxy.name: proxy
        for proxy in (
            Proxy("sidecar", run, texts.sidecar, "sidecar.json"),
            Proxy(
                "envoy",
                [
                    envoy,
                    "-c",
                    "{file}",
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--drain-time-s",
                    "2",
                    "-l",
                    "error",
                ],
                texts.envoy,
                "envoy.json",
            ),
            Proxy("haproxy", ["haproxy", "-W", "-f", "{file}"], texts.haproxy, "haproxy.cfg", signal.SIGUSR2),
            Proxy("nginx", ["nginx", "-c", "{file}", "-p", "{folder}"], texts.nginx, "nginx.conf"),
        )
    }
