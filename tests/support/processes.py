"""Child processes of tests: started, watched, killed, restarted, always reaped.

The `processes` fixture owns them:

    service = await processes.service("tests.support.http_service")
    service.kill()                  # SIGKILL, as a crash
    await service.restart()         # the same port again
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN = 30.0
STOP_WITHIN = 10.0

T = TypeVar("T")


class Child:
    """One Python module as a process, with everything that it prints.

    `stdout` and `stderr` are the lines so far, without their ends. Start it from
    the test's own thread (see `tests.support.child`).
    """

    def __init__(self, module: str, args: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self.module = module
        self.args = list(args)
        self.env = dict(env or {})
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._open_pipes = 0
        self._changed = threading.Condition()

    @property
    def pid(self) -> int:
        """The process id of the current run."""
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._started().poll()

    @property
    def output(self) -> str:
        """Both streams, for a failure's report."""
        return "\n".join([f"$ python -m {self.module} {' '.join(self.args)}", *self.stdout, *self.stderr])

    def start(self) -> None:
        """Start a run; what an earlier run printed is forgotten."""
        self.stdout, self.stderr = [], []
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.child", self.module, *self.args],
            cwd=ROOT,
            env=os.environ | self.env | {"PYTHONUNBUFFERED": "1", "TEST_PARENT_PID": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Its own session: a Ctrl-C at the terminal is for the test run, which then cleans up.
            start_new_session=True,
        )
        self._process = process
        self._open_pipes = 2
        for pipe, lines in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            assert pipe is not None
            threading.Thread(target=self._read, args=(pipe, lines), daemon=True).start()

    async def until(self, found: Callable[["Child"], T | None], within: float = READY_WITHIN) -> T:
        """What `found` returns once that is not None; asked again at every line printed.

        AssertionError with the output when the process ends first or time is up.
        """
        return await asyncio.to_thread(self._until, found, within)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone: a crash."""
        process = self._started()
        process.kill()
        process.wait(STOP_WITHIN)

    def signal(self, number: int) -> None:
        """Send a signal and do not wait."""
        self._started().send_signal(number)

    def terminate(self) -> None:
        """SIGTERM, and do not wait."""
        self.signal(signal.SIGTERM)

    async def exited(self, within: float = STOP_WITHIN) -> int:
        """Wait for its end; the exit code. subprocess.TimeoutExpired when time is up."""
        return await asyncio.to_thread(self._started().wait, within)

    def reap(self) -> None:
        """End it by whatever means, and wait. Nothing happens when it never ran or has ended."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(STOP_WITHIN)
        with self._changed:
            self._changed.wait_for(lambda: self._open_pipes == 0, STOP_WITHIN)

    def _read(self, pipe: IO[str], lines: list[str]) -> None:
        with pipe:
            for line in pipe:
                with self._changed:
                    lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._open_pipes -= 1
            self._changed.notify_all()

    def _until(self, found: Callable[["Child"], T | None], within: float) -> T:
        result: T | None = None

        def over() -> bool:
            nonlocal result
            result = found(self)
            return result is not None or self._open_pipes == 0

        with self._changed:
            self._changed.wait_for(over, within)
        assert result is not None, f"not seen within {within} s, or ended first:\n{self.output}"
        return result

    def _started(self) -> "subprocess.Popen[str]":
        assert self._process is not None, "not started"
        return self._process


class Service(Child):
    """A child that takes `--port` and prints one JSON object with its `port` when it is ready."""

    def __init__(self, module: str, args: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        super().__init__(module, args, env)
        self._own_args = list(args)
        self.ready: dict[str, Any] = {}
        self.port = 0

    @property
    def address(self) -> str:
        """`host:port`, as a cluster's `endpoints` take it."""
        return f"127.0.0.1:{self.port}"

    async def serve(self) -> None:
        """Start it and wait until it is ready; a second time on the same port."""
        self.args = [*self._own_args, "--port", str(self.port)]
        self.start()
        self.ready = await self.until(_ready_line)
        self.port = self.ready["port"]

    async def restart(self) -> None:
        """Crash it if it runs, and serve on the same port again."""
        self.reap()
        await self.serve()


class Processes:
    """All children of one test."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def own(self, child: Child) -> None:
        """See to it that `child` is gone at the end of the test."""
        self.children.append(child)

    def start(self, module: str, *args: str, env: Mapping[str, str] | None = None) -> Child:
        """Run a module; wait for its output by `until`."""
        child = Child(module, args, env)
        self.own(child)
        child.start()
        return child

    async def service(self, module: str, *args: str, env: Mapping[str, str] | None = None) -> Service:
        """Run a module that keeps the ready-line rule, and wait until it is ready."""
        service = Service(module, args, env)
        self.own(service)
        await service.serve()
        return service

    def reap(self) -> None:
        """End all of them, the last one first."""
        for child in reversed(self.children):
            child.reap()


def announce(port: int, **more: Any) -> None:
    """Print the ready line (for modules that are run as a `Service`)."""
    print(json.dumps({"port": port, **more}), flush=True)


def _ready_line(child: Child) -> dict[str, Any] | None:
    for line in child.stdout:
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    return None
