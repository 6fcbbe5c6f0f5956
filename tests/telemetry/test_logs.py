"""JSON lines when nobody watches, readable ones on a terminal."""

import fcntl
import io
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from sidecar.telemetry import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines() -> None:
    stream = io.StringIO()
    logs.configure(stream)

    logs.get_logger("sidecar.x").warning("happened", number=1, what=b"?")

    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "warning", "event": "happened", "component": "sidecar.x", "number": 1, "what": "b'?'"}


def test_timestamps_are_rfc_3339() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    logs.get_logger().info("now")
    stamp = datetime.fromisoformat(json.loads(stream.getvalue())["timestamp"])
    assert stamp.utcoffset() is not None


def test_exceptions_keep_their_traceback_on_one_line() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        logs.get_logger().error("failed", exc_info=error)
    assert stream.getvalue().count("\n") == 1
    assert "RuntimeError: broken" in json.loads(stream.getvalue())["exception"]


def test_a_terminal_gets_readable_lines() -> None:
    stream = Terminal()
    logs.configure(stream)
    logs.get_logger().info("happened", number=1)
    assert "happened" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_below_the_level_nothing_is_said() -> None:
    stream = io.StringIO()
    logs.configure(stream, logging.WARNING)
    logs.get_logger().info("happened")
    assert stream.getvalue() == ""


def test_libraries_log_into_the_same_lines_once() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    logs.configure(stream)  # again, as a second start in one process does
    logging.getLogger("some.library").error("no %s", "luck")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["component"], line["level"]) == ("no luck", "some.library", "error")


def test_rich_is_not_imported() -> None:
    code = "import sidecar.telemetry.logs, sys; sys.exit('rich.console' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
    # And who wants it afterwards still gets it.
    code = "import sidecar.telemetry.logs, rich.console"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_who_does_not_read_costs_lines_and_no_time() -> None:
    # Given a pipe that is full
    reader, writer = os.pipe()
    os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
    stream = logs.Unhurried(writer, capacity=20_000)
    logs.configure(stream)
    # When more is logged than waits
    for number in range(1000):
        logs.get_logger().info("happened", number=number)
    # Then what is too much is counted
    lost = stream.dropped
    assert 0 < lost < 1000
    assert logs.dropped() == lost
    # When it is read, the next line is said, and how many are missing before it
    with open(reader, "rb") as pipe:
        pipe.read(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
        before = [json.loads(pipe.readline())["number"] for _ in range(1000 - lost)]
        logs.get_logger().info("after")
        missing, after = json.loads(pipe.readline()), json.loads(pipe.readline())
        stream.stop()
        assert pipe.read() == b""
    assert before == list(range(1000 - lost))
    assert (missing["event"], missing["count"], after["event"]) == ("log_lines_dropped", lost, "after")


def test_a_reader_that_went_is_not_heard_of() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = logs.Unhurried(writer)
    logs.configure(stream)
    logs.get_logger().info("to nobody")
    stream.stop()
    assert logs.dropped() == 1


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    """Whoever shares standard error may have made it so; and its number may be a large one."""
    reader, small = os.pipe()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    writer = fcntl.fcntl(small, fcntl.F_DUPFD, 1100)  # select(2) knows 1,024
    os.close(small)
    os.set_blocking(writer, False)
    stream = logs.Unhurried(writer)
    stream.write("x" * 200_000 + "\n")
    with open(reader, "rb") as pipe:
        line = pipe.readline()
        stream.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(line) == 200_001
    assert stream.dropped == 0
