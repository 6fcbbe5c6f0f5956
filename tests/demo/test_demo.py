"""`sidecar demo` as it is run: real services, a real sidecar, real signals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib import request

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A bound, not an expectation: the machine may be busy.
WITHIN = 50.0


@contextmanager
def demo(*args: str) -> Iterator["subprocess.Popen[str]"]:
    """`python -m sidecar demo ARGS` with pipes; killed in the end if it runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "demo", *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.poll()
            if process.returncode is None:
                for pid in children(process.pid):
                    os.kill(pid, signal.SIGKILL)
                process.kill()


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    # A thread's children are its own, and asyncio starts them in the main one.
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def read_until(process: "subprocess.Popen[str]", part: str) -> str:
    """Read lines until one has `part`; that line."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if part in line:
            return line
    pytest.fail(f"{part!r} never came:\n{''.join(seen)}{process.stderr.read() if process.stderr else ''}")


def is_gone(pid: int) -> bool:
    """Whether the process has ended: what is left of it at most is a zombie for init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.mark.slow
def test_a_short_run_shows_that_the_sidecar_does_better() -> None:
    with demo("--seconds", "4", "--json") as process:
        out, errors = process.communicate(timeout=WITHIN)
    told = json.loads(out)
    assert (process.returncode, told["better"], told["reasons"], errors) == (0, True, [], "")
    assert told["seconds"] == 4.0
    for protocol in ("http", "grpc"):
        straight, through = told[protocol]["straight"], told[protocol]["sidecar"]
        assert straight["requests"] == through["requests"] == 200
        assert through["success_rate"] > straight["success_rate"]
        assert 0 < straight["p50_ms"] <= straight["p99_ms"]
        assert 0 < through["p50_ms"] <= through["p99_ms"]
        assert straight["requests"] - straight["succeeded"] == sum(straight["failures"].values())
        assert straight["attempts_per_request"] == 1.0
        assert through["attempts"] == through["requests"] + through["retries"]
        assert through["retries"] > 0
        assert sum(phase["requests"] for phase in through["phases"].values()) == 200
    assert told["http"]["straight"]["phases"]["killed"]["failures"]["refused"] > 0
    assert {event["to"] for event in told["breaker_events"]} <= {"open", "half_open", "closed"}


@pytest.mark.slow
@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_everything_that_it_started(number: signal.Signals) -> None:
    with demo("--seconds", "60") as process:
        read_until(process, "healthy:")
        pids = children(process.pid)
        assert len(pids) == 9
        process.send_signal(number)
        _, errors = process.communicate(timeout=WITHIN)
    assert process.returncode == 1
    assert errors == "sidecar: interrupted, everything that was started is stopped\n"
    assert all(map(is_gone, pids))


@pytest.mark.slow
@linux
def test_a_signal_while_it_starts_leaves_nothing_either() -> None:
    with demo("--seconds", "60") as process:
        read_until(process, "starting")
        while not (pids := children(process.pid)):
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=WITHIN)
    assert process.returncode == 1
    assert all(map(is_gone, pids))


@pytest.mark.slow
@linux
def test_keep_leaves_all_running_until_ctrl_c() -> None:
    with demo("--seconds", "1", "--keep") as process:
        outcome = read_until(process, "The sidecar did")
        url = read_until(process, "curl").split()[1]
        admin = read_until(process, "sidecar status").split()[-1]
        read_until(process, "grpc service d")
        pids = children(process.pid)
        assert len(pids) == 9
        for wanted in (url, f"{admin}/readyz"):
            with request.build_opener(request.ProxyHandler({})).open(wanted, timeout=10) as response:
                assert response.status == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=WITHIN)
    assert process.returncode == (0 if "did better" in outcome else 1)
    assert errors == ""
    assert all(map(is_gone, pids))


@pytest.mark.slow
@linux
def test_a_sidecar_that_dies_is_reported() -> None:
    with demo("--seconds", "60") as process:
        read_until(process, "healthy:")
        pids = children(process.pid)
        sidecar = [pid for pid in pids if b"run\0-c" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(sidecar) == 1
        os.kill(sidecar[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=WITHIN)
    assert process.returncode == 1
    assert errors.startswith("sidecar: the sidecar ended with exit code -9")
    assert all(map(is_gone, pids))


@pytest.mark.slow
@linux
def test_a_reader_who_leaves_ends_it() -> None:
    with demo("--seconds", "60") as process:
        read_until(process, "healthy:")
        pids = children(process.pid)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(WITHIN) == 1
    assert all(map(is_gone, pids))
