"""Logs of the control side: structlog, one JSON object a line when nobody watches,
readable lines on a terminal. Requests have a log of their own: access_log.py."""

import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TextIO, cast

import orjson

from sidecar.model.lean import hidden
from sidecar.telemetry.writer import Writer

with hidden("rich"):  # for colourful tracebacks: 3.5 MiB
    import structlog

# Chatter of libraries that says nothing about the sidecar.
_QUIET: Final = ("asyncio", "aiohttp", "grpc")
# What may wait for who reads standard error, in bytes.
_CAPACITY: Final = 1024 * 1024
_STOP_SECONDS: Final = 2.0


class Stream(Protocol):
    """Where logs go: a text file, or `Unhurried`."""

    def write(self, text: str, /) -> object:
        """One line, with its end."""

    def flush(self) -> object:
        """Hold nothing back."""

    def isatty(self) -> bool:
        """Whether somebody watches."""


class Unhurried:
    """A file for logs on which nobody waits: a thread writes. What cannot be written in time,
    or not at all, is dropped and counted in `dropped`; who calls never hears of it."""

    def __init__(self, fd: int, capacity: int = _CAPACITY) -> None:
        """Owns the file `fd`; `capacity` bounds, in bytes, what waits."""
        self._terminal = os.isatty(fd)
        self._capacity = capacity
        self._handed = 0  # bytes given to the writer since the start
        self._overflowed = self._told = 0
        self._writer = Writer(fd, "log", lambda reason: None)  # there is nowhere to say it

    @property
    def dropped(self) -> int:
        """Lines lost: too many waited, or the write failed."""
        return self._overflowed + self._writer.failed

    def write(self, text: str) -> None:
        """One line; by one thread at a time, which structlog sees to."""
        line = text.encode("utf-8", "backslashreplace")
        if self._handed - self._writer.taken + len(line) > self._capacity:
            self._overflowed += 1
            return
        if self._told < self._overflowed:
            line = self._tell(self._overflowed - self._told) + line
            self._told = self._overflowed
        self._handed += len(line)
        self._writer.write([line])

    def _tell(self, lost: int) -> bytes:
        # Not by a logger: the one that is calling holds the lock of this file.
        entry = {"level": "warning", "event": "log_lines_dropped", "component": "sidecar", "count": lost}
        return orjson.dumps({"timestamp": datetime.now(UTC), **entry}, option=orjson.OPT_UTC_Z) + b"\n"

    def flush(self) -> None:
        """Nothing is held back here."""

    def isatty(self) -> bool:
        """Whether somebody watches."""
        return self._terminal

    def stop(self) -> None:
        """Write what is left and close. Blocks, two seconds at the most."""
        self._writer.stop(_STOP_SECONDS)


def dropped() -> int:
    """Lines lost since the start; 0 where whoever logs waits."""
    return _stream.dropped if isinstance(_stream, Unhurried) else 0


_stream: Stream | None = None


def configure(stream: Stream | None = None, level: int = logging.INFO) -> None:
    """Send all logs to `stream` (default: standard error), those of libraries too.

    `level` is one of the numbers of the standard library's logging.
    """
    global _stream
    _stream = stream = sys.stderr if stream is None else stream
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),  # RFC 3339, with Z
    ]
    if stream.isatty():
        traceback = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=traceback))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, stream)),  # all that it uses is there
        # A second configure, as tests make one, must reach loggers that exist.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward())
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def get_logger(name: str = "sidecar") -> Any:
    """A logger: `log.info("what happened", key=value)`; takes what `configure` says
    at the time of each call."""
    return structlog.get_logger(component=name)


def _json(entry: dict[str, Any], **_: Any) -> str:
    # Of a value that JSON does not know its text is still worth more than no line.
    first = {name: entry.pop(name) for name in ("timestamp", "level", "event") if name in entry}
    return orjson.dumps({**first, **entry}, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _Forward(logging.Handler):
    """The standard library's logging, which libraries use, into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record on; a broken one is reported by logging itself."""
        try:
            fields: dict[str, Any] = {"component": record.name}
            if record.exc_info is not None and record.exc_info[0] is not None:
                fields["exc_info"] = record.exc_info
            structlog.get_logger().log(record.levelno, record.getMessage(), **fields)
        except Exception:
            self.handleError(record)
