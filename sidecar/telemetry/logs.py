"""Logs of the control side: structlog, one JSON object a line when nobody watches,
readable lines on a terminal. Requests have a log of their own: access_log.py."""

import logging
import sys
from typing import Any, Final, TextIO

import orjson

from sidecar.model.lean import hidden

with hidden("rich"):  # for colourful tracebacks: 3.5 MiB
    import structlog

# Chatter of libraries that says nothing about the sidecar.
_QUIET: Final = ("asyncio", "aiohttp", "grpc")


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send all logs to `stream` (default: standard error), those of libraries too.

    `level` is one of the numbers of the standard library's logging.
    """
    stream = sys.stderr if stream is None else stream
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
        logger_factory=structlog.WriteLoggerFactory(stream),
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
