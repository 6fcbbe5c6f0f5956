"""In a container: no root, no writable directory, no home."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.security.access.sealed import CANNOT, NOBODY
from tests.support.http_service import HttpService
from tests.support.processes import ROOT

# What a container gives, and nothing else: no HOME, no USER, nowhere for temporary files.
ENV = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/nonexistent", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may read and only we may write; pytest's own is ours alone."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def configuration(service: HttpService, attempts: int = 3) -> str:
    return yaml.safe_dump(
        {
            "admin": {"bind": "127.0.0.1:0"},
            "access_log": "stdout",
            "clusters": {"web": {"endpoints": [service.address], "retry": {"attempts": attempts}}},
            "listeners": {"out": {"bind": "127.0.0.1:0", "routes": [{"to": "web"}]}},
        }
    )


class Contained:
    """A sidecar as a process of its own; `events` are its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """The first event with these fields; AssertionError when the process ends first."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            async for line in self.process.stderr:
                self.lines.append(line.decode())
                if line.startswith(b"{"):
                    event: dict[str, Any] = json.loads(line)
                    if wanted.items() <= event.items():
                        return event
        if await self.process.wait() == CANNOT:
            pytest.skip("this root may not read what others may not")
        raise AssertionError("".join(self.lines))


async def serves(contained: Contained, service: HttpService, path: Path, uid: int) -> None:
    """It starts, answers, reloads, is scraped, and ends as it was asked to."""
    admin = (await contained.until(event="listening", listener="admin"))["address"]
    out = (await contained.until(event="listening", listener="out"))["address"]
    await contained.until(event="started")
    assert os.stat(f"/proc/{contained.process.pid}").st_uid == uid
    async with aiohttp.ClientSession() as client:
        async with client.get(f"http://{out}/bytes/10") as response:
            assert response.status == 200
        for page in ("/metrics", "/api/config", "/api/requests", "/readyz"):
            async with client.get(f"http://{admin}{page}") as response:
                assert response.status == 200
    path.write_text(configuration(service, attempts=2))
    contained.process.send_signal(signal.SIGHUP)
    await contained.until(event="reload", result="ok")
    contained.process.terminate()
    async with asyncio.timeout(30):
        rest, errors = await contained.process.communicate()
    assert contained.process.returncode == 0
    assert json.loads(rest.splitlines()[0])["path"] == "/bytes/10"
    contained.lines.append(errors.decode())


async def run_sealed(path: Path, service: HttpService, env: dict[str, str], uid: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.security.access.sealed", "sidecar", "run", "-c", str(path)),
        cwd="/",
        env=ENV | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    contained = Contained(process)
    try:
        await serves(contained, service, path, uid)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "sealed:" not in "".join(contained.lines)


async def test_it_runs_where_it_may_write_to_nothing(folder: Path, http_service: HttpService) -> None:
    path = folder / "sidecar.yaml"
    path.write_text(configuration(http_service))
    await run_sealed(path, http_service, {}, os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_it_runs_as_nobody(folder: Path, http_service: HttpService) -> None:
    path = folder / "sidecar.yaml"
    path.write_text(configuration(http_service))
    await run_sealed(path, http_service, {"SEALED_AS": "nobody"}, NOBODY)


async def test_what_is_sealed_does_fail(tmp_path: Path) -> None:
    """Otherwise the test before this one would prove nothing."""
    module = tmp_path / "writes.py"
    module.write_text(f"open({str(tmp_path / 'x')!r}, 'w')")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.security.access.sealed", "writes"],
        env=ENV | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "sealed: open" in done.stderr
    assert not (tmp_path / "x").exists()


def test_the_pod_gives_it_no_more_than_it_needs() -> None:
    documents = list(yaml.safe_load_all((ROOT / "config" / "kubernetes" / "pod.yml").read_text()))
    pod = documents[1]["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    security = sidecar["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    user = f"{security['runAsUser']}:{security['runAsGroup']}"
    assert f"USER {user}\n" in (ROOT / "Dockerfile").read_text()
    assert all(mount["readOnly"] is True for mount in sidecar["volumeMounts"])
    assert not [volume for volume in pod["volumes"] if "emptyDir" in volume or "hostPath" in volume]
    assert not any(key in pod for key in ("hostNetwork", "hostPID", "hostIPC"))
    token = yaml.safe_load(documents[0]["data"]["sidecar.yaml"])["admin"]["token_file"]
    mounted = {mount["mountPath"]: mount["name"] for mount in sidecar["volumeMounts"]}
    secrets = {volume["name"] for volume in pod["volumes"] if "secret" in volume}
    assert mounted[str(Path(token).parent)] in secrets
