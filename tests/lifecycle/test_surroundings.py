"""What a process finds around it: standard files that are closed, full, or read by nobody."""

import asyncio
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest

from tests.interop.setups import TIMEOUT, config
from tests.support.http_service import HttpService
from tests.support.processes import ROOT

_PIPE = 4096  # the least that a pipe holds, and less than twenty lines of the log
_RELOADS = 100


class Bare:
    """`sidecar run` with standard files of the test's. It listens on unix sockets, for it may
    have nobody to tell its ports."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    async def ask(self, what: str, path: str, method: str = "GET") -> tuple[int, str]:
        connector = aiohttp.UnixConnector(str(self._folder / what))
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, connector=connector) as client,
            client.request(method, f"http://localhost{path}") as response,
        ):
            return response.status, await response.text()

    async def serves(self) -> bool:
        return (await self.ask("out", "/bytes/5"))[0] == 200

    async def reload(self, times: int = _RELOADS) -> None:
        """Each is a line in the log."""
        for _ in range(times):
            assert (await self.ask("admin", "/api/reload", "POST"))[0] == 200

    async def counted(self) -> float:
        _, text = await self.ask("admin", "/metrics")
        return next(
            float(line.split()[1]) for line in text.splitlines() if line.startswith("sidecar_log_dropped_total")
        )

    async def ends(self) -> int:
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 30)


def _run(path: Path, stdout: int, stderr: int, before: Callable[[], None] | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sidecar", "run", "-c", str(path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=before,
    )


@asynccontextmanager
async def bare(
    folder: Path,
    service: HttpService,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    before: Callable[[], None] | None = None,
    **top: object,
) -> AsyncIterator[Bare]:
    path = folder / "sidecar.yaml"
    admin = {"bind": f"unix:{folder}/admin"}
    path.write_text(config([service.address], None, {"bind": f"unix:{folder}/out"}, admin=admin, **top))
    process = _run(path, stdout, stderr, before)
    sidecar = Bare(process, folder)
    try:
        while True:
            assert process.poll() is None, "it ended"
            try:
                await sidecar.ask("admin", "/healthz")
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)
        yield sidecar
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def test_who_reads_the_log_may_stop(tmp_path: Path, http_service: HttpService) -> None:
    """A container runtime that hangs: the pipe is full, and a write would wait for ever."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE)
    with closing(os.fdopen(reader, "rb")) as pipe:
        # Given a log that takes no line more, from before the first request on
        async with bare(tmp_path, http_service, stderr=writer) as sidecar:
            os.close(writer)
            await sidecar.reload()
            # Then everything goes on
            assert await sidecar.serves()
            # When it is read again, all is there
            read = asyncio.create_task(asyncio.to_thread(pipe.read))
            assert await sidecar.ends() == 0
            text = (await read).decode()
    assert text.count('"event":"reload_unchanged"') == _RELOADS
    assert text.splitlines()[-1].count('"event":"stopped"')


async def test_it_ends_though_nobody_reads_the_log(tmp_path: Path, http_service: HttpService) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE)
    with closing(os.fdopen(reader, "rb")):
        async with bare(tmp_path, http_service, stderr=writer) as sidecar:
            os.close(writer)
            await sidecar.reload()
            assert await sidecar.ends() == 0


async def test_who_reads_the_log_may_go(tmp_path: Path, http_service: HttpService) -> None:
    reader, writer = os.pipe()
    async with bare(tmp_path, http_service, stderr=writer) as sidecar:
        os.close(writer)
        os.close(reader)
        await sidecar.reload(3)
        assert await sidecar.serves()
        assert await sidecar.counted() >= 2  # the thread may be about to write the third
        assert await sidecar.ends() == 0


async def test_the_disk_of_the_log_may_be_full(tmp_path: Path, http_service: HttpService) -> None:
    with open("/dev/full", "wb") as full:
        async with bare(tmp_path, http_service, full.fileno(), full.fileno(), access_log="stdout") as sidecar:
            assert await sidecar.serves()
            assert await sidecar.counted() > 0
            assert await sidecar.ends() == 0


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
async def test_standard_files_may_be_closed(closed: tuple[int, ...], tmp_path: Path, http_service: HttpService) -> None:
    """The next file to be opened has the number of one that is closed: a log line could go to a client."""

    def close() -> None:
        for each in closed:
            os.close(each)

    async with bare(tmp_path, http_service, before=close, access_log="stdout") as sidecar:
        for each in closed:
            assert os.readlink(f"/proc/{sidecar.process.pid}/fd/{each}") == os.devnull
        await sidecar.reload(1)
        assert await sidecar.serves()
        assert await sidecar.ends() == 0


def test_too_few_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(config(["127.0.0.1:1"]))
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "run", "-c", str(path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (15, 15)),
    )
    assert done.returncode == 1
    assert done.stderr == "sidecar: it may open 15 files, and needs 20 (ulimit -n)\n"
