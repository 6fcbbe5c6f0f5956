"""End to end over loopback: wrk or h2load -> `sidecar run` -> a tiny service.

The figure is the CPU time of the sidecar's process, user and system, by request:
who else runs on the machine moves it less than the requests per second.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Effort, Figure

_GROUP = "loopback"
_ROOT = Path(__file__).resolve().parents[1]
_GRPC = ("content-type: application/grpc", "te: trailers", "user-agent: grpc-python/1.80.0", "grpc-timeout: 1S")
_CONFIG = """\
service: benchmark
admin: {{bind: 127.0.0.1:0}}
clusters:
  http1: {{listen: "127.0.0.1:0", endpoints: ["127.0.0.1:{http1}"]}}
  http2: {{listen: "127.0.0.1:0", protocol: http2, endpoints: ["127.0.0.1:{http2}"]}}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """A run of a load generator; `done` finds the number of answers in what it prints."""

    name: str
    tool: str
    arguments: tuple[str, ...]
    listener: str
    path: str
    done: str
    unit: str = "us/request"
    per: int = 1


def _loads(seconds: int) -> tuple[Load, ...]:
    fields = tuple(word for field in _GRPC for word in ("-H", field))
    wrk = ("-t1", f"-d{seconds}s")
    requests = r"(\d+) requests in"
    return (
        Load("HTTP/1.1, 64 connections", "wrk", (*wrk, "-c64"), "http1", "/small", requests),
        Load(
            "HTTP/2 with gRPC's fields, 8 x 16 in flight",
            "h2load",
            ("-c8", "-m16", "-D", str(seconds), *fields),
            "http2",
            "/users.v1.Users/Get",
            r"status codes: (\d+) 2xx",
        ),
        Load("HTTP/1.1, 1 MiB answers", "wrk", (*wrk, "-c8"), "http1", "/1m", requests, "ms/GB", 1 << 20),
    )


def figures(effort: Effort) -> list[Figure]:
    """CPU time by request, and memory. A tool that is not installed is said so."""
    loads = _loads(effort.seconds)
    missing = {load.tool for load in loads if shutil.which(load.tool) is None}
    if all(load.tool in missing for load in loads):
        note = "skipped: neither wrk nor h2load is installed (apt-get install wrk nghttp2-client)"
        return [Figure(_GROUP, "all", None, "", note)]
    found = []
    with _service() as ports, _sidecar(_CONFIG.format(**ports)) as (process, listeners):
        for load in loads:
            if load.tool in missing:
                found.append(Figure(_GROUP, load.name, None, load.unit, f"skipped: {load.tool} is not installed"))
            else:
                found.append(_run(load, process.pid, listeners[load.listener]))
        found.append(Figure(_GROUP, "memory after that (PSS)", _pss(process.pid), "MiB"))
    return found


def _run(load: Load, pid: int, address: str) -> Figure:
    command = [load.tool, *load.arguments, f"http://{address}{load.path}"]
    before = _cpu_seconds(pid)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=_beside)
    spent = _cpu_seconds(pid) - before
    number = re.search(load.done, ran.stdout)
    if number is None or not int(number[1]):
        return Figure(_GROUP, load.name, None, load.unit, f"failed: {(ran.stderr or ran.stdout).strip()[-200:]}")
    done = int(number[1])
    bad = re.search(r"Non-2xx.*|Socket errors.*", ran.stdout)
    if load.per == 1:
        return Figure(_GROUP, load.name, spent / done * 1e6, load.unit, bad[0] if bad else f"{done:,} requests")
    gigabytes = done * load.per / 1e9
    return Figure(_GROUP, load.name, spent * 1e3 / gigabytes, load.unit, bad[0] if bad else f"{gigabytes:.1f} GB")


# One core for the sidecar, the others for everybody else, where there is more than one.


def _alone() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _beside() -> None:
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, every - {min(every)} or every)


@contextmanager
def _service() -> Iterator[dict[str, int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.upstream"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_beside,
    )
    with _ended(process):
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


@contextmanager
def _sidecar(config: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A running sidecar, and the addresses of its listeners by name."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        file = Path(folder) / "sidecar.yaml"
        file.write_text(config)
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "run", "-c", str(file)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_alone,
        )
        stack.enter_context(_ended(process))
        yield process, _listening(process)


def _listening(process: "subprocess.Popen[str]") -> dict[str, str]:
    addresses: dict[str, str] = {}
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "listening":
            addresses[event["listener"]] = event["address"]
        elif event.get("event") == "started":
            return addresses
    raise RuntimeError(f"the sidecar did not start: {''.join(said)}")


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss(pid: int) -> float | None:
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else None
