"""What the tests with real HTTP clients share: a configuration, a client, curl."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sidecar.app import App

TIMEOUT = aiohttp.ClientTimeout(total=30)

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def config(
    endpoints: Sequence[Any],
    cluster: Mapping[str, Any] | None = None,
    listener: Mapping[str, Any] | None = None,
    **top: Any,
) -> str:
    """One cluster `web` behind one listener `out`, every port chosen by the system. Client, sidecar and
    service often share one event loop, on a machine that does much else: a connection may take long."""
    web = {"endpoints": list(endpoints), **(cluster or {})}
    web["timeouts"] = {"connect": "10s", **web.get("timeouts", {})}
    return yaml.safe_dump(
        {
            "service": "test",
            "admin": {"bind": "127.0.0.1:0"},
            "clusters": {"web": web},
            "listeners": {"out": {"bind": "127.0.0.1:0", "routes": [{"to": "web"}], **(listener or {})}},
            **top,
        }
    )


# Retries without a wait worth mentioning.
QUICK: Mapping[str, Any] = {"backoff": {"base": "1ms", "max": "1ms"}}


def session(app: App, listener: str = "out", **options: Any) -> aiohttp.ClientSession:
    """A client whose relative URLs go to a listener."""
    return aiohttp.ClientSession(f"http://{app.address(listener)}", timeout=TIMEOUT, **options)


async def admin(app: App, path: str, method: str = "GET") -> Any:
    """The JSON of an admin path, whatever its status."""
    async with session(app, "admin") as client, client.request(method, path) as response:
        return await response.json()


@dataclass(frozen=True, slots=True)
class Answer:
    """What curl got. `exit` is its exit code, `fields` the final head's, names in lower case."""

    exit: int
    body: bytes
    info: Mapping[str, Any]
    heads: str
    errors: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The last status, 0 for none."""
        return int(self.info.get("http_code", 0))

    @property
    def version(self) -> str:
        """ "1.1" or "2"."""
        return str(self.info.get("http_version", ""))

    def header(self, name: str) -> str | None:
        """The first value of a field of the final head."""
        return next((value for key, value in self.fields if key == name), None)


async def curl(*arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None) -> Answer:
    """Run curl, with no proxy and no configuration but what is given."""
    clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    with tempfile.TemporaryDirectory() as folder:
        heads = Path(folder) / "heads"
        process = await asyncio.create_subprocess_exec(
            *("curl", "--disable", "--silent", "--show-error", "--max-time", "30"),
            *("--dump-header", str(heads), "--write-out", "%{stderr}\n%{json}"),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean | dict(env or {}),
        )
        body, errors = await process.communicate(stdin)
        text = heads.read_text("latin-1") if heads.exists() else ""
    messages, _, info = errors.decode().rpartition("\n")
    assert process.returncode is not None
    return Answer(process.returncode, body, json.loads(info), text, messages, _fields(text))


def _fields(text: str) -> list[tuple[str, str]]:
    blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if block.startswith("HTTP/")]
    lines = blocks[-1].splitlines()[1:] if blocks else []
    pairs = (line.partition(":") for line in lines)
    return [(name.lower(), value.strip()) for name, _, value in pairs]
