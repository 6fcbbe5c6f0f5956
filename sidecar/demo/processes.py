"""The demo's children: started, spoken to, killed, always reaped."""

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

_READY_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 4.0
_KEPT_LINES: Final = 8


class ChildError(Exception):
    """A process of the demo did not start, or ended when it should not. The text says all."""


class Child:
    """`python -m ...` as a process. `name` is what it is called in messages.

    It is a session of its own: a Ctrl-C at the terminal reaches only the demo,
    which then ends its children in order.
    """

    def __init__(self, name: str, args: Sequence[str]) -> None:
        self.name = name
        self._args = list(args)
        self._process: asyncio.subprocess.Process | None = None
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    async def start(self, *more: str) -> None:
        """Start it and wait until it is ready; ChildError when that does not happen."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._args,
                *more,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        except OSError as error:
            raise ChildError(f"{self.name} cannot be started: {error.strerror or error}") from None
        ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._process, ready))
        await asyncio.wait([ready], timeout=_READY_SECONDS)
        if not ready.done():
            raise ChildError(f"{self.name} was not ready within {_READY_SECONDS:.0f} s{self._last_words()}")
        if not ready.result():
            code = await self._process.wait()
            raise ChildError(f"{self.name} ended with exit code {code} at its start{self._last_words()}")

    async def say(self, line: str) -> None:
        """Write a line to its standard input. A process that is gone does not hear it."""
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()

    async def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.signal(signal.SIGKILL)
        await self.reaped()

    async def ended(self) -> ChildError:
        """Wait for its end, and tell of it."""
        assert self._process is not None
        code = await self._process.wait()
        return ChildError(f"{self.name} ended with exit code {code}{self._last_words()}")

    def is_ready(self, said: dict[str, Any]) -> bool:
        """Whether this JSON line, one of those that it prints, makes it ready."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def reaped(self) -> None:
        """Wait until it is gone, and everything that it said was read."""
        if self._process is not None:
            await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process, ready: "asyncio.Future[bool]") -> None:
        # Read to the end: a child whose pipe is full stands still.
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self._said.append(line)
            if not ready.done() and line.startswith("{"):
                with suppress(ValueError):
                    if self.is_ready(json.loads(line)):
                        ready.set_result(True)
        if not ready.done():
            ready.set_result(False)

    def _last_words(self) -> str:
        return "".join(f"\n  {line}" for line in self._said)


class ServiceChild(Child):
    """One service of the demo. A restart takes the same port again."""

    def __init__(self, protocol: str, letter: str, seed: int) -> None:
        super().__init__(
            f"{protocol} service {letter}",
            ["sidecar.demo.services", protocol, "--name", f"users-{letter}", "--seed", str(seed)],
        )
        self.protocol = protocol
        self.letter = letter
        self.port = 0

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    async def serve(self) -> None:
        """Start it, the second time on the port of the first."""
        await self.start("--port", str(self.port))

    def is_ready(self, said: dict[str, Any]) -> bool:
        """Its one line is its port."""
        self.port = said.get("port", self.port)
        return "port" in said


class SidecarChild(Child):
    """`sidecar run -c FILE`. `addresses` are `host:port` by listener, "admin" among them."""

    def __init__(self, path: str) -> None:
        super().__init__("the sidecar", ["sidecar", "run", "-c", path])
        self.addresses: dict[str, str] = {}

    def is_ready(self, said: dict[str, Any]) -> bool:
        """It logs each listener, then that it started."""
        if said.get("event") == "listening":
            self.addresses[said["listener"]] = said["address"]
        return said.get("event") == "started"


async def stop_all(children: Iterable[Child]) -> None:
    """SIGTERM, some seconds, SIGKILL; returns when none is left."""
    mine = list(children)
    if not mine:
        return  # asyncio.wait takes no empty set
    ends = [asyncio.create_task(child.reaped()) for child in mine]
    for child in mine:
        child.signal(signal.SIGTERM)
    try:
        # Not asyncio.timeout: this may run in a task that is being cancelled.
        await asyncio.wait(ends, timeout=_STOP_SECONDS)
    finally:
        for child in mine:
            child.signal(signal.SIGKILL)
    await asyncio.wait(ends, timeout=_STOP_SECONDS)
