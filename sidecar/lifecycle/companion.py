"""Ends the sidecar with the process that it serves (`exit_with`): Jobs end when their work has.

The process must be visible: the same machine, or a pod with shareProcessNamespace. By
pidfd_open(2), which cannot mistake a new process with an old number; where that is not to
be had, by asking every second.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from sidecar.config.lifecycle import ExitWith
from sidecar.telemetry.logs import get_logger

_LOOK_SECONDS: Final = 1.0


class Companion:
    """The process that we go with. `on_end(why)` is called once, when it is gone."""

    def __init__(
        self, on_end: Callable[[str], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._on_end = on_end
        self._sleep = sleep
        self._spec: ExitWith | None = None
        self._task: asyncio.Task[None] | None = None
        self.alive = False

    def follow(self, spec: ExitWith | None) -> None:
        """Go with the process that a configuration names, None with no process."""
        if spec == self._spec:
            return
        self._spec = spec
        self.stop()
        if spec is not None:
            self._task = asyncio.get_running_loop().create_task(self._follow(spec))

    async def _follow(self, spec: ExitWith) -> None:
        log = get_logger()
        while not (pids := _pids(spec)):
            if spec.pid is not None:
                break  # a number is waited for by nobody: it ended before we looked
            await self._sleep(_LOOK_SECONDS)
        while pids:
            log.info("goes_with", pids=pids)
            self.alive = True
            for pid in pids:
                await self._until_gone(pid)
            # Of a name there may be another by now: a worker that was replaced.
            pids = _pids(spec) if spec.process is not None else []
        self.alive = False
        self._on_end(f"the process of exit_with has ended ({_what(spec)})")

    async def _until_gone(self, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except (OSError, AttributeError):  # an old kernel, or a sandbox
            while _exists(pid):
                await self._sleep(_LOOK_SECONDS)
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def stop(self) -> None:
        """Go with nobody any more."""
        self.alive = False
        if self._task is not None:
            self._task.cancel()
            self._task = None


def _pids(spec: ExitWith) -> list[int]:
    """The processes that are meant and that are there."""
    if spec.pid is not None:
        found = [spec.pid]
    elif spec.pid_file is not None:
        found = _pid_in(spec.pid_file)
    else:
        found = [pid for pid in _all_pids() if _name_of(pid) == spec.process and pid != os.getpid()]
    return [pid for pid in found if _exists(pid)]


def _pid_in(path: str) -> list[int]:
    try:
        # O_NONBLOCK: a pipe must not stop the event loop.
        with open(path, encoding="ascii", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            text = file.read(32).strip()
    except (OSError, ValueError):
        return []
    return [int(text)] if text.isdecimal() and int(text) > 0 else []


def _all_pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    # A process that nobody has waited for yet still has its number.
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"


def _what(spec: ExitWith) -> str:
    return f"pid {spec.pid}" if spec.pid is not None else spec.pid_file or spec.process or ""
