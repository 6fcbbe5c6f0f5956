"""The access log: one JSON line for each finished exchange.

The path makes the line and puts it into a list. A thread writes, because a disk
or a pipe may stand still for as long as it likes. What it cannot take in time is
dropped and counted, so that neither memory nor requests pay for it.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.codec.grpc import STATUS_NAMES
from sidecar.identity.clients import Peer
from sidecar.model.outcome import Verdict
from sidecar.telemetry.logs import get_logger
from sidecar.telemetry.writer import Writer

if TYPE_CHECKING:
    from sidecar.proxy.attempt import Attempt
    from sidecar.proxy.exchange import Exchange

_FLUSH_SECONDS: Final = 0.25
_FLUSH_BYTES: Final = 64 * 1024
# What may wait for the writer, in bytes.
_CAPACITY: Final = 4 * 1024 * 1024
_STOP_SECONDS: Final = 2.0
_VERDICTS: Final = {
    Verdict.SUCCESS: "success",
    Verdict.FAILURE: "failure",
    Verdict.SOFT_FAILURE: "failure",
    Verdict.IGNORED: "ignored",
}
_OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_STDOUT: Final = "stdout"

log = get_logger("sidecar.access_log")


class AccessLogError(Exception):
    """The log file cannot be opened: `path`, and the `reason`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the access log {path} cannot be opened: {reason}")
        self.path = path
        self.reason = reason


def open_access_log(target: str) -> "AccessLog | None":
    """The log for "stdout" or a file's path, None for "off"; AccessLogError."""
    return None if target == "off" else AccessLog(target)


class AccessLog:
    """Records of a Runtime. `dropped` counts the lines that were not written."""

    def __init__(
        self,
        target: str,
        *,
        capacity: int = _CAPACITY,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Opens `target`, "stdout" or a path; `capacity` bounds, in bytes, what waits."""
        self._target = target
        self._sink = Writer(_open(target), "access-log", self._on_broken)
        self._capacity = capacity
        self._now = now
        self._lines: list[bytes] = []
        self._buffered = 0  # bytes of _lines
        self._handed = 0  # bytes given to the writer since the start
        self._overflowed = 0
        self._scheduled = False

    @property
    def dropped(self) -> int:
        """Lines lost: the buffer was full, or the write failed."""
        return self._overflowed + self._sink.failed

    def finished(self, exchange: "Exchange") -> None:
        """One line more."""
        line = orjson.dumps(entry(exchange, self._now()), option=_OPTIONS)
        waiting = self._buffered + self._handed - self._sink.taken
        if waiting + len(line) > self._capacity:
            self._overflowed += 1
            return
        self._lines.append(line)
        self._buffered += len(line)
        if self._buffered >= _FLUSH_BYTES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            exchange.runtime.timers.add(_FLUSH_SECONDS, self)

    def on_timer(self, token: int) -> None:
        """The oldest line has waited long enough."""
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Give the writer what there is."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._handed += self._buffered
            self._buffered = 0
            self._sink.write(lines)

    def reopen(self) -> None:
        """Write to a new file of that name from the next line on: the old one was
        rotated away. When that fails, the old one goes on."""
        self.flush()
        if self._target != _STDOUT:
            self._sink.replace(self._reopened)

    def stop(self) -> None:
        """Write what is left and close. Blocks, two seconds at the most."""
        self.flush()
        self._sink.stop(_STOP_SECONDS)

    def _reopened(self) -> int | None:
        try:
            return _open(self._target)
        except AccessLogError as error:
            log.error("access log not reopened", path=error.path, reason=error.reason)
            return None

    def _on_broken(self, reason: str) -> None:
        log.error("access log not written", path=self._target, reason=reason)


def _open(target: str) -> int:
    try:
        if target == _STDOUT:
            return os.dup(1)
        # Not for everybody to read: paths and peers are in it. A pipe without a reader is an
        # error, not something to wait for.
        fd = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
        os.set_blocking(fd, True)
    except (OSError, ValueError) as error:
        raise AccessLogError(target, getattr(error, "strerror", None) or str(error)) from error
    return fd


def entry(exchange: "Exchange", time: datetime) -> dict[str, Any]:
    """What is said about a finished exchange. Durations in milliseconds."""
    head = exchange.head
    last = last_attempt(exchange)
    failure = exchange.failure
    duration = exchange.runtime.turn.now - exchange.started
    answered = last is not None and last.head is not None
    return {
        "time": time,
        "listener": exchange.listener,
        "route": exchange.route.name if exchange.route is not None else "",
        "cluster": exchange.cluster.name if exchange.cluster is not None else "",
        "endpoint": last.endpoint.name if last is not None else "",
        "protocol": exchange.protocol,
        "method": text(head.method),
        "authority": text(head.authority),
        "path": text(path_shown(head.path)),
        "status": exchange.status,
        "grpc_code": grpc_code(exchange),
        "attempts": exchange.number,
        "verdict": _VERDICTS[last.verdict] if last is not None else None,
        "failure": failure.reason if failure is not None else None,
        "retry_skipped": exchange.skipped.value if exchange.skipped is not None else None,
        "duration_ms": milliseconds(duration),
        "upstream_ms": milliseconds(last.latency) if last is not None and answered else None,
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "peer": str(exchange.stream.peer),
        "client": names_of(exchange.stream.peer),
    }


def names_of(peer: str) -> list[str] | None:
    """What a client's verified certificate holds: the URIs and host names that
    `clients.san` is about; None without a certificate."""
    if not isinstance(peer, Peer) or not peer.names:
        return None
    return [value for kind, value in peer.names if kind in ("URI", "DNS")]


def last_attempt(exchange: "Exchange") -> "Attempt | None":
    """The try whose answer the client got, or else the last one that failed."""
    if exchange.attempt is not None:
        return exchange.attempt
    return exchange.attempts[-1] if exchange.attempts else None


def grpc_code(exchange: "Exchange") -> str | None:
    """The name of the code that a gRPC call ended with; None where none was told."""
    if not exchange.grpc or exchange.status not in (200, 499):
        return None
    return STATUS_NAMES[exchange.code].upper()


def verdict_name(verdict: Verdict) -> str:
    """The word for a verdict in logs and metrics."""
    return _VERDICTS[verdict]


def path_shown(path: bytes) -> bytes:
    """A request's path without its query: tokens, signatures and personal data are sent there."""
    path, question, _ = path.partition(b"?")
    return path + b"?***" if question else path


def text(value: bytes) -> str:
    """What a client sent, as text: a header field's bytes may be any."""
    return value.decode("utf-8", "backslashreplace")


def milliseconds(seconds: float) -> float:
    """To the microsecond."""
    return round(seconds * 1000, 3)
