"""JSON lines when nobody watches, readable ones on a terminal."""

import io
import json
import logging
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
