"""One line for each exchange, and never a wait."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sidecar.model.outcome import Failure, Skipped, Verdict
from sidecar.proxy.exchange import Exchange
from sidecar.telemetry.access_log import AccessLog, AccessLogError, open_access_log
from tests.telemetry.parts import Ended, Parts

NOON = datetime(2026, 1, 2, 12, 0, 0, 250000, tzinfo=UTC)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def ordinary(parts: Parts) -> Exchange:
    ended = Ended(parts, parts.clusters.get("users") or parts.cluster("users", "10.0.0.1:80"))
    ended.attempt(1, Verdict.SUCCESS, status=200, seconds=0.5, to_head=0.125)
    return ended.end()


def test_a_line_says_what_happened(parts: Parts, tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"), now=lambda: NOON)

    log.finished(ordinary(parts))
    log.stop()

    assert lines(tmp_path / "log") == [
        {
            "time": "2026-01-02T12:00:00.250000Z",
            "listener": "out",
            "route": "out[0]",
            "cluster": "users",
            "endpoint": "10.0.0.1:80",
            "protocol": "http1",
            "method": "GET",
            "authority": "users.internal",
            "path": "/users/\\xff?***",
            "status": 200,
            "grpc_code": None,
            "attempts": 1,
            "verdict": "success",
            "failure": None,
            "retry_skipped": None,
            "duration_ms": 500.0,
            "upstream_ms": 125.0,
            "bytes_in": 3,
            "bytes_out": 5,
            "peer": "127.0.0.1:5000",
            "client": None,
        }
    ]


def test_a_failure_has_its_reason_and_the_last_endpoint(parts: Parts, tmp_path: Path) -> None:
    ended = Ended(parts, parts.cluster("users", "10.0.0.1:80", "10.0.0.2:80"), "grpc")
    ended.attempt(1, Verdict.FAILURE, failure=Failure.CONNECT_FAILED)
    ended.attempt(2, Verdict.FAILURE, failure=Failure.RESET)
    log = AccessLog(str(tmp_path / "log"))

    log.finished(ended.end(code=14, failure=Failure.RESET, skipped=Skipped.NOT_IDEMPOTENT, answered=False))
    log.stop()

    (line,) = lines(tmp_path / "log")
    assert line["endpoint"] == "10.0.0.2:80"
    assert (line["verdict"], line["failure"], line["retry_skipped"]) == ("failure", "reset", "not_idempotent")
    assert (line["status"], line["grpc_code"], line["attempts"]) == (200, "UNAVAILABLE", 2)
    assert line["upstream_ms"] is None


def test_without_a_route_there_is_a_line_too(parts: Parts, tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))

    log.finished(Ended(parts, None).end(status=404, failure=Failure.NO_ROUTE))
    log.stop()

    (line,) = lines(tmp_path / "log")
    assert (line["route"], line["cluster"], line["endpoint"], line["verdict"]) == ("", "", "", None)
    assert line["failure"] == "no_route"


def test_a_timer_flushes_and_only_one_waits(parts: Parts, tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    for _ in range(3):
        log.finished(ordinary(parts))
    waiting = [timed for _, timed in parts.timers.waiting.values() if timed is log]
    assert waiting == [log]

    parts.timers.fire(log)
    log.finished(ordinary(parts))  # a later line waits for its own timer
    assert [timed for _, timed in parts.timers.waiting.values() if timed is log] == [log]
    log.stop()

    assert len(lines(tmp_path / "log")) == 4


def test_a_disk_that_stands_still_costs_lines_not_memory(parts: Parts, tmp_path: Path) -> None:
    # A pipe that nobody reads stands still once it is full.
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(tmp_path / "pipe"), capacity=200_000)
    exchange = ordinary(parts)

    for _ in range(2000):
        log.finished(exchange)

    assert 0 < log.dropped < 2000
    written = 2000 - log.dropped
    os.set_blocking(reader, True)
    seen = b""
    while seen.count(b"\n") < written - 100:  # what is still buffered comes with stop
        seen += os.read(reader, 65536)
    log.flush()
    while seen.count(b"\n") < written:
        seen += os.read(reader, 65536)
    log.stop()
    os.close(reader)
    assert seen.count(b"\n") == written


def test_reopen_goes_on_in_a_new_file(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path))
    log.finished(ordinary(parts))
    path.rename(tmp_path / "log.1")  # as logrotate does

    log.flush()
    log.reopen()
    log.finished(ordinary(parts))
    log.stop()

    assert len(lines(tmp_path / "log.1")) == 1
    assert len(lines(path)) == 1


def test_reopen_that_fails_keeps_the_old_file(parts: Parts, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(str(folder / "log"))
    folder.rename(tmp_path / "moved")

    log.reopen()
    log.finished(ordinary(parts))
    log.stop()

    assert len(lines(tmp_path / "moved" / "log")) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_lines_that_cannot_be_written_are_counted(parts: Parts) -> None:
    log = AccessLog("/dev/full")
    log.finished(ordinary(parts))
    log.stop()
    assert log.dropped == 1


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessLogError, match="No such file or directory") as caught:
        open_access_log(str(tmp_path / "no" / "log"))
    assert caught.value.path == str(tmp_path / "no" / "log")


def test_off_is_nothing_at_all() -> None:
    assert open_access_log("off") is None


def test_stdout(parts: Parts, capfd: pytest.CaptureFixture[str]) -> None:
    log = open_access_log("stdout")
    assert log is not None
    log.finished(ordinary(parts))
    log.reopen()  # nothing to reopen, and no error
    log.stop()
    assert json.loads(capfd.readouterr().out)["status"] == 200


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    """open(2) would, and the start with it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AccessLogError, match="No such device or address"):
        open_access_log(str(tmp_path / "pipe"))
