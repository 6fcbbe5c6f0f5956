"""The order of events: start everything, let traffic flow while things go wrong, compare."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

from rich.console import Console

from sidecar.demo import closing
from sidecar.demo.admin import AdminClient
from sidecar.demo.clients import Client, GrpcClient, HttpClient
from sidecar.demo.live import Lines, Screen, Silence, Terminal, View, titled
from sidecar.demo.processes import ChildError
from sidecar.demo.report import SIDECAR, STRAIGHT, WAYS, Comparison, as_json, compare, shortfalls
from sidecar.demo.scenario import DEFAULT_SECONDS, PROTOCOLS, Phase, Timeline, call_rate, plan
from sidecar.demo.stage import Stage, stage
from sidecar.demo.traffic import Lane, drive

Clients = dict[tuple[str, str], Client]

_DONE = 0
_FAILED = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(seconds: float | None, keep: bool, json_only: bool) -> int:
    """The demo; its exit code."""
    try:
        return asyncio.run(_Demo(seconds or DEFAULT_SECONDS, keep, json_only).perform())
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("sidecar: interrupted, everything that was started is stopped", file=sys.stderr)
    except ChildError as error:
        print(f"sidecar: {error}", file=sys.stderr)
    finally:
        _let_go_of_output()
    return _FAILED


def _let_go_of_output() -> None:
    """A reader that has left must not turn the exit code into the interpreter's 120,
    which is what a failed flush at its very end makes of it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Demo:
    def __init__(self, seconds: float, keep: bool, json_only: bool) -> None:
        self._keep = keep
        self._json_only = json_only
        # Off a terminal there is no width to fit into: nothing may be cut.
        self._console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False)
        self._timeline = Timeline(seconds)
        self._lanes = [Lane(protocol, way) for protocol in PROTOCOLS for way in WAYS]
        self._view = View(self._timeline, self._lanes)

    async def perform(self) -> int:
        """Everything, from the first process to the last."""
        task = asyncio.current_task()
        assert task is not None
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, _interrupt, task)
        with contextlib.closing(self._screen()) as screen:
            screen.say("starting eight services and a sidecar ...")
            async with stage() as running:
                comparison = await self._compare(running, screen)
                screen.close()
                self._tell(comparison, running)
                if self._keep:
                    await _until_interrupted(running)
        return _FAILED if shortfalls(comparison) else _DONE

    def _screen(self) -> Screen:
        if self._json_only:
            return Silence()
        if sys.stdout.isatty() and not self._console.is_dumb_terminal:
            return Terminal(self._view, self._console)
        return Lines(self._view)

    async def _compare(self, running: Stage, screen: Screen) -> Comparison:
        names = {service.address: titled(service.letter) for service in running.services}
        async with AsyncExitStack() as stack:
            admin = AdminClient(running.admin)
            stack.push_async_callback(admin.close)
            self._view.names, self._view.admin = names, admin
            clients = await _clients(running, stack)
            await admin.look()
            await self._traffic(running, screen, clients, admin)
            await admin.look()
        return compare(self._timeline.seconds, self._lanes, admin.clusters, admin.events, names)

    async def _traffic(self, running: Stage, screen: Screen, clients: Clients, admin: AdminClient) -> None:
        following = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as beside:
                watching = [
                    beside.create_task(admin.follow(following)),
                    beside.create_task(_no_early_end(running)),
                ]
                await following.wait()
                start = asyncio.get_running_loop().time()
                watching.append(beside.create_task(self._ticks(screen, admin, start)))
                async with asyncio.TaskGroup() as work:
                    work.create_task(self._direct(running, screen, start))
                    for lane in self._lanes:
                        work.create_task(self._drive(clients[lane.protocol, lane.way], lane, start))
                for task in watching:
                    task.cancel()
        except ExceptionGroup as group:
            raise _child_error(group) or group from None

    async def _drive(self, client: Client, lane: Lane, start: float) -> None:
        # Half a beat apart, so that neither way is the first at a busy moment.
        beat = 0.5 / call_rate(self._timeline.seconds) if lane.way == SIDECAR else 0.0
        await drive(client, plan(lane.protocol, self._timeline), lane, start + beat)

    async def _direct(self, running: Stage, screen: Screen, start: float) -> None:
        before: Phase | None = None
        loop = asyncio.get_running_loop()
        for at, phase in zip(self._timeline.starts, self._timeline.phases, strict=True):
            await asyncio.sleep(max(0.0, start + at - loop.time()))
            screen.enter(phase, at)
            await running.enter(phase, before)
            before = phase

    async def _ticks(self, screen: Screen, admin: AdminClient, start: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(screen.refresh)
            await admin.look()
            screen.tick(loop.time() - start)

    def _tell(self, comparison: Comparison, running: Stage) -> None:
        if self._json_only:
            more = {"running": closing.places(running)} if self._keep else {}
            print(json.dumps(as_json(comparison) | more, indent=2), flush=True)
        else:
            closing.print_comparison(self._console, comparison)
            if self._keep:
                closing.print_places(self._console, running)
            else:
                closing.print_next_step(self._console)
            sys.stdout.flush()


async def _clients(running: Stage, stack: AsyncExitStack) -> Clients:
    clients: Clients = {}
    for way, http, grpc in (
        (STRAIGHT, running.addresses("http"), running.addresses("grpc")),
        (SIDECAR, [running.outbound], [running.outbound]),
    ):
        clients["http", way] = http_client = HttpClient(http)
        stack.push_async_callback(http_client.close)
        clients["grpc", way] = grpc_client = GrpcClient(grpc)
        stack.push_async_callback(grpc_client.close)
        await grpc_client.ready()
    return clients


async def _no_early_end(running: Stage) -> None:
    raise await running.sidecar.ended()


async def _until_interrupted(running: Stage) -> None:
    """Until a signal, or the end of the sidecar: a ChildError."""
    waiting = asyncio.create_task(running.sidecar.ended())
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, waiting.cancel)
    await asyncio.wait([waiting])
    if not waiting.cancelled():
        raise waiting.result()


def _interrupt(task: "asyncio.Task[Any]") -> None:
    # Once: what follows is the clean-up, which takes seconds at the most.
    if not task.cancelling():
        task.cancel()


def _child_error(group: ExceptionGroup[Exception]) -> ChildError | None:
    for error in group.exceptions:
        found = _child_error(error) if isinstance(error, ExceptionGroup) else error
        if isinstance(found, ChildError):
            return found
    return None
