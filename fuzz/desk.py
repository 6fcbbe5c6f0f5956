"""The admin server without sockets: bytes of a client in, answers out. What the targets of the
admin API share."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from benchmarks.world import Transport
from sidecar.admin.access import HEADERS
from sidecar.admin.connection import connection
from sidecar.admin.guard import Guard
from sidecar.admin.operations import Operations
from sidecar.admin.server import application

# Turns of the event loop that an answer may take at the most: metrics are rendered in pieces.
_MOST_TURNS: Final = 4000
# Seconds for which it reads a body that nobody wants, and more.
_LINGERING: Final = 2.0
_HEAD: Final = re.compile(
    rb"HTTP/(?:1\.[01] |[0-9.]+ (?=505 ))([1-5][0-9][0-9]) [\x20-\x7e]*\r\n((?:[A-Za-z0-9-]+: [^\r\n\0]*\r\n)*)\r\n"
)


@dataclass(frozen=True)
class Asked:
    """A request as the server understood it, and its answer's status."""

    method: str
    path: str
    status: int


@dataclass(frozen=True)
class Answer:
    """One answer as it stands in the bytes; `error` is what it says is wrong, or empty."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The word for programs."""
        kind = self.fields.get("content-type", "")
        return str(json.loads(self.body).get("error", "")) if self.body and "application/json" in kind else ""


class _Wire(Transport):
    """One that knows both its ends, and whether it is read."""

    def __init__(self, protocol: Any, socket_name: Any) -> None:
        super().__init__(protocol)
        self.reading = True
        self._names = {"peername": ("127.0.0.1", 40000), "sockname": socket_name}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._names.get(name, default)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Desk:
    """An admin server for one client. Use it inside its event loop; `close` at the end.

    `asked` are the requests as they were answered, so far.
    """

    def __init__(self, operations: Operations, socket_name: Any) -> None:
        self.asked: list[Asked] = []
        self._operations = operations
        self._socket_name = socket_name
        self._now = 1000.0
        self._guard = Guard(lambda: connection(self._runner.server))
        app = application(operations, self._guard)
        app.on_response_prepare.append(self._note)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.0)

    async def ask(self, pieces: Sequence[bytes]) -> list[Answer]:
        """What one connection answers to these reads, up to its end. AssertionError when the
        answers are no HTTP or the connection leaves something behind."""
        loop: Any = asyncio.get_running_loop()
        if self._runner.server is None:
            loop.time = lambda: self._now
            await self._runner.setup()
        others = asyncio.all_tasks()
        protocol: Any = self._guard()
        wire = _Wire(protocol, self._socket_name)
        first = len(self.asked)
        protocol.connection_made(wire)
        for piece in pieces:
            await _settled()
            if wire.closing or not wire.reading:
                break
            protocol.data_received(piece)
        await _settled()
        protocol.connection_lost(None)
        self._now += _LINGERING
        said = wire.take()
        # Whoever follows the events is seen to have gone by the next one, at the latest.
        self._operations.events.publish("drain", {})
        await _settled()
        assert not self._guard._open, "the guard still counts the connection"
        assert not self._operations.events._subscriptions, "somebody still follows the events"
        left = asyncio.all_tasks() - others
        assert not left, f"still at work: {left}"
        return _answers(said, [each.method for each in self.asked[first:]])

    async def close(self) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def _note(self, request: web.Request, response: web.StreamResponse) -> None:
        self.asked.append(Asked(request.method, request.path, response.status))


async def _settled() -> None:
    """Everything that may go on has gone on, but for what waits for later."""
    loop: Any = asyncio.get_running_loop()
    for _ in range(_MOST_TURNS):
        await asyncio.sleep(0)
        due = loop._scheduled and loop._scheduled[0]._when <= loop.time()
        if not loop._ready and not due:
            return
    raise AssertionError("the server does not come to rest")


def _answers(data: bytes, methods: Sequence[str]) -> list[Answer]:
    """The answers in these bytes; the methods say which have no body, and those behind them are
    to what was no request."""
    found: list[Answer] = []
    while data:
        head = _HEAD.match(data)
        assert head is not None, f"this is no answer: {data[:200]!r}"
        data = data[head.end() :]
        status = int(head[1])
        if status < 200:
            continue
        lines = [line.partition(": ") for line in head[2].decode("latin-1").split("\r\n")[:-1]]
        fields = {name.lower(): value for name, _, value in lines}
        assert len(fields) == len(lines), f"a field comes twice: {lines}"
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        body, data = _body(fields, data) if method != "HEAD" else (b"", data)
        found.append(Answer(status, fields, body))
    assert len(found) >= len(methods), f"{len(methods)} requests, {len(found)} answers"
    return found


def _body(fields: dict[str, str], data: bytes) -> tuple[bytes, bytes]:
    """A body and what is behind it; a stream of events has no end."""
    length = fields.get("content-length")
    if length is not None:
        assert len(data) >= int(length), "the body is shorter than it should be"
        return data[: int(length)], data[int(length) :]
    assert fields["content-type"] == "text/event-stream", "an answer without an end"
    return data, b""


def check_answer(answer: Answer) -> None:
    """What holds for every answer: it is no crash, it says what is wrong in both forms, and no
    browser may frame, sniff, keep or lend it."""
    assert 200 <= answer.status < 600, answer
    assert answer.status != 500, answer
    for name in HEADERS:
        assert name in answer.fields, (name, answer)
    assert answer.fields.get("server", "sidecar") == "sidecar", answer
    if answer.status < 300 or answer.status in (417, 503) or not answer.body:
        return
    said = json.loads(answer.body)
    assert said["error"], answer
    assert said["message"], answer
