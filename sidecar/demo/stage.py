"""The services and the sidecar, as processes, from start to end."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar.demo.processes import Child, ChildError, ServiceChild, SidecarChild, stop_all
from sidecar.demo.scenario import BACK, KILLED, PROTOCOLS, ROLES, Phase, configuration


class Stage:
    """What is running. `config` is the sidecar's YAML file."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "sidecar.yaml"
        self.services = [
            ServiceChild(protocol, letter, seed) for protocol in PROTOCOLS for seed, letter in enumerate(ROLES, 1)
        ]
        self.sidecar = SidecarChild(str(self.config))

    @property
    def children(self) -> list[Child]:
        """All processes; the sidecar ends first, while its services still answer."""
        return [self.sidecar, *self.services]

    @property
    def outbound(self) -> str:
        """`host:port` where the sidecar takes calls."""
        return self.sidecar.addresses["outbound"]

    @property
    def admin(self) -> str:
        """The base URL of the sidecar's admin API."""
        return f"http://{self.sidecar.addresses['admin']}"

    def addresses(self, protocol: str) -> list[str]:
        """`host:port` of each service of a protocol."""
        return [service.address for service in self.services if service.protocol == protocol]

    def named(self, letter: str) -> list[ServiceChild]:
        """The services with this letter, one of each protocol."""
        return [service for service in self.services if service.letter == letter]

    async def start(self) -> None:
        """Start everything; ChildError with the reason if anything does not."""
        await _together(*(service.serve() for service in self.services))
        self.config.write_text(configuration(self.addresses("http"), self.addresses("grpc")))
        await self.sidecar.start()

    async def enter(self, phase: Phase, before: Phase | None) -> None:
        """Let happen what this phase is about, and end what the one before was about."""
        if before is not None and before.fault:
            await _together(*(service.say("none") for service in self.named(before.service)))
        concerned = self.named(phase.service)
        if phase.name == KILLED:
            await _together(*(service.kill() for service in concerned))
        elif phase.name == BACK:
            await _together(*(service.serve() for service in concerned))
        elif phase.fault:
            await _together(*(service.say(phase.fault) for service in concerned))


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A running stage; every process is gone at the end, however it comes."""
    with tempfile.TemporaryDirectory(prefix="sidecar-demo-") as folder:
        running = Stage(Path(folder))
        try:
            await running.start()
            yield running
        finally:
            await stop_all(running.children)


async def _together(*steps: Coroutine[Any, Any, None]) -> None:
    """All at once; the first ChildError ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except* ChildError as failed:
        errors = failed.exceptions
    else:
        return
    raise errors[0] from None
