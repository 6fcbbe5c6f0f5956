"""The sidecar under test: in this process, or as one of its own.

async with running(yaml) as app: ...

sidecar = SidecarProcess(tmp_path, yaml)       # every bind with port 0
processes.own(sidecar)
await sidecar.serve()
sidecar.port("outbound"), sidecar.port("admin")
"""

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from sidecar.app import App
from tests.support.processes import Child


class SidecarProcess(Child):
    """`python -m sidecar run -c FILE`; learns its ports from the log events `listening`.

    A listener is named as in the YAML, a cluster's own port by the cluster, and
    the admin server `admin`.
    """

    def __init__(
        self, folder: Path, config: str, *args: str, env: dict[str, str] | None = None, module: str = "sidecar"
    ) -> None:
        self.path = folder / "sidecar.yaml"
        self.path.write_text(config)
        self.addresses: dict[str, str] = {}
        super().__init__(module, ["run", "-c", str(self.path), *args], env)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it logged so far: the JSON lines on standard error."""
        return [json.loads(line) for line in self.stderr if line.startswith("{")]

    async def serve(self) -> None:
        """Start it, and wait until each of its listeners is bound."""
        expected = _names(yaml.safe_load(self.path.read_text()))
        self.start()
        self.addresses = await self.until(lambda _: self._listening(expected))

    def port(self, listener: str) -> int:
        """The TCP port that a listener got."""
        return int(self.addresses[listener].rpartition(":")[2])

    def url(self, listener: str, path: str = "") -> str:
        """`http://host:port/path` of a listener."""
        return f"http://{self.addresses[listener]}{path}"

    def rewrite(self, config: str) -> None:
        """Replace the file in one step, as editors and ConfigMaps do."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(config)
        fresh.replace(self.path)

    def _listening(self, expected: set[str]) -> dict[str, str] | None:
        found = {
            event["listener"]: event["address"]
            for event in self.events
            if event.get("event") == "listening" and "listener" in event
        }
        return found if expected <= found.keys() else None


@asynccontextmanager
async def running(config: str) -> AsyncIterator[App]:
    """A sidecar in this process, from start to stop."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sidecar.yaml"
        path.write_text(config)
        app = App(path)
        await app.start()
        try:
            yield app
        finally:
            await app.stop()


def _names(spec: dict[str, Any]) -> set[str]:
    own_ports = {name for name, cluster in spec.get("clusters", {}).items() if "listen" in cluster}
    return {"admin", *spec.get("listeners", {}), *own_ports}
