"""A bug anywhere on the way of a request costs that request and nothing else.

Errors are thrown into policies, balancers, codecs, pools, timers and meters, at every kind
of entry from the wire into the path, with real clients; beside them a stream on the same
HTTP/2 connection goes on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import grpc
import pytest

from sidecar.app import App
from sidecar.codec import h1
from sidecar.lifecycle.crashes import Crashes, place_of
from sidecar.model.head import RequestHead
from sidecar.model.meters import Histogram
from sidecar.policy.breaker import Breaker
from sidecar.policy.budget import Budget
from sidecar.policy.priority import PriorityLimit
from sidecar.proxy import exchange as path
from sidecar.proxy.attempt import Attempt
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.snapshot import Listener
from sidecar.proxy.upload import Upload
from sidecar.proxy.waiting import Waiting
from sidecar.upstream.balance.peak_ewma import PeakEwma
from sidecar.upstream.pool import H1Pool, H2Pool
from sidecar.wire import h2_client, h2_server, h2_stream
from sidecar.wire.connector import Connector
from sidecar.wire.h1_answer import Answering
from sidecar.wire.h1_client import H1ClientConnection
from sidecar.wire.h1_server import H1ServerConnection
from sidecar.wire.h2_stream import H2ClientStream, H2ServerStream
from tests.chaos.watching import Leftovers, eventually, metrics
from tests.interop.setups import TIMEOUT, config
from tests.support.clock import FakeClock
from tests.support.grpc_service import SERVICE, GrpcService
from tests.support.http_service import HttpService
from tests.support.sidecar import running


class BugError(Exception):
    """Nobody expects this one."""


class Bug:
    """Fails the next call of something, once."""

    def __init__(self) -> None:
        self.armed = False
        self.met = 0

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.armed:
                self.armed = False
                self.met += 1
                raise BugError("a bug")
            return real(*args, **kwargs)

        return call


@contextmanager
def bug_in(owner: Any, name: str) -> Iterator[Bug]:
    """`owner.name` fails once when armed."""
    bug = Bug()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, bug.around(getattr(owner, name)))
        yield bug


class Pair:
    """An HTTP service, a gRPC service, and a sidecar before both."""

    def __init__(self, app: App, client: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
        self.app = app
        self.client = client
        self.channel = channel

    async def http(self, method: str = "POST", path: str = "/echo", body: bytes | None = b"x" * 70_000) -> str:
        try:
            async with self.client.request(method, path, data=body) as response:
                await response.read()
                return f"{response.status} {response.headers.get('x-sidecar-error', '')}".strip()
        except aiohttp.ClientError:
            return "broken"

    async def rpc(self) -> str:
        try:
            answer = await self.channel.unary_unary(f"/{SERVICE}/Unary")(b"ping")
            return "OK" if answer == b"ping" else repr(answer)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)


@asynccontextmanager
async def pair(retries: int = 0, **cluster: Any) -> AsyncIterator[Pair]:
    async with HttpService() as web, GrpcService() as rpc:
        clusters = {"web": {"endpoints": [web.address], **cluster}, "rpc": {"endpoints": [rpc.address], **cluster}}
        listeners = {
            "out": {"bind": "127.0.0.1:0", "routes": [{"match": {"grpc": f"{SERVICE}/*"}, "to": "rpc"}, {"to": "web"}]}
        }
        async with running(config([], clusters=clusters, listeners=listeners)) as app:
            options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", retries))
            async with (
                aiohttp.ClientSession(f"http://{app.address('out')}", timeout=TIMEOUT) as client,
                grpc.aio.insecure_channel(str(app.address("out")), options=options) as channel,
            ):
                yield Pair(app, client, channel)


# Where it fails. What the path asks, then what is told to it, then the wire's own parts.
BUGS: dict[str, list[tuple[Any, str]]] = {
    "policies": [
        (Listener, "match"),
        (PriorityLimit, "try_acquire"),
        (Budget, "deposit"),
        (Breaker, "admit"),
        (Breaker, "record"),
        (PeakEwma, "pick"),
        (PeakEwma, "observe"),
        (Histogram, "record"),
        (H1Pool, "acquire"),
        (H2Pool, "acquire"),
        (Connector, "readable"),
        (path, "verdict_of"),
    ],
    "path": [
        (Waiting, "wake"),
        (Waiting, "_start_grpc_deadline"),
        (Exchange, "__init__"),
        (Exchange, "on_data"),
        (Exchange, "_open_attempt"),
        (Exchange, "send"),
        (Exchange, "_commit"),
        (Exchange, "settle"),
        (Exchange, "_finish"),
        (Upload, "take"),
        (Upload, "replay"),
        (Attempt, "on_head"),
        (Attempt, "on_data"),
        (Attempt, "on_trailers"),
        (Attempt, "hand_over"),
    ],
    "wire": [
        (h1, "encode_request"),
        (h1, "encode_response"),
        (H1ServerConnection, "on_message_head"),
        (H1ServerConnection, "on_message_data"),
        (H1ServerConnection, "send_head"),
        (H1ServerConnection, "flush"),
        (H1ClientConnection, "on_message_head"),
        (H1ClientConnection, "on_message_data"),
        (H1ClientConnection, "send_head"),
        (H1ClientConnection, "flush"),
        (h2_server, "request_head"),
        (h2_client, "response_head"),
        (h2_stream, "trailer_fields"),
        (H2ServerStream, "send_head"),
        (H2ServerStream, "send_data"),
        (H2ServerStream, "send_trailers"),
        (H2ClientStream, "send_head"),
        (H2ClientStream, "send_data"),
    ],
}


@pytest.mark.parametrize("where", BUGS)
async def test_a_bug_costs_one_request(where: str) -> None:
    async with pair() as two:
        # Given connections that are warm, and a stream on the HTTP/2 one
        asks: list[Callable[[], Awaitable[str]]] = [two.http, lambda: two.http("GET", "/bytes/9", None), two.rpc]
        assert [await ask() for ask in asks] == ["200", "200", "OK"]
        stream = two.channel.stream_stream(f"/{SERVICE}/Bidi")()
        for owner, name in BUGS[where]:
            what = f"{getattr(owner, '__name__', owner)}.{name}"
            await _say(stream, what.encode())
            before = Leftovers.of(two.app)
            counted = two.app.runtime.internal_errors
            with bug_in(owner, name) as bug:
                for ask in asks:
                    # When something fails in the midst of a request
                    bug.armed = True
                    seen = await asyncio.wait_for(ask(), 10)
                    bug.armed = False
                    # Then that request gets a 500 or an INTERNAL, or has its answer already
                    assert seen in ("200", "OK", "500 internal", "INTERNAL", "broken"), f"{what}: {seen}"
            # And it was counted, the stream beside it goes on, and all places are given back
            assert bug.met, f"{what}: nobody came by"
            assert two.app.runtime.internal_errors >= counted + bug.met, what
            await _say(stream, b"and on")
            assert [await ask() for ask in asks] == ["200", "200", "OK"], what
            await eventually(lambda was=before: _books(two.app) == (was.requests, was.in_flight), what)  # type: ignore[misc]
        seen_metrics = await metrics(two.app.address("admin"))
        assert seen_metrics.total("sidecar_internal_errors_total") == two.app.runtime.internal_errors
        await stream.done_writing()


async def _say(stream: Any, message: bytes) -> None:
    await stream.write(message)
    assert await stream.read() == message


def _books(app: App) -> tuple[int, int]:
    now = Leftovers.of(app)
    return now.requests, now.in_flight


@pytest.mark.parametrize(
    ("owner", "name", "path"),
    [(Attempt, "on_head", "/bytes/9"), (PeakEwma, "pick", "/bytes/9"), (Exchange, "__init__", "/bytes/9")],
)
async def test_it_is_a_500_and_an_internal(owner: Any, name: str, path: str) -> None:
    async with pair() as two:
        with bug_in(owner, name) as bug:
            bug.armed = True
            assert await two.http("GET", path, None) == "500 internal"
            bug.armed = True
            assert await two.rpc() == "INTERNAL"


@pytest.mark.parametrize(("owner", "name"), [(H1ServerConnection, "flush"), (Answering, "_finish_writing")])
async def test_a_bug_that_stays_costs_its_connection(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To write what it says about its bug meets the bug again: that must not go on for ever."""
    real = getattr(owner, name)

    def fails(connection: Any) -> Any:
        if connection._head is not None and connection._head.path == b"/bytes/8":
            raise BugError(name)
        return real(connection)

    async with pair() as two:
        assert await two.http("GET", "/bytes/9", None) == "200"
        stream = two.channel.stream_stream(f"/{SERVICE}/Bidi")()
        monkeypatch.setattr(owner, name, fails)
        # When a request meets it that is the last one of its connection
        two.client.headers["connection"] = "close"
        seen = await asyncio.wait_for(two.http("GET", "/bytes/8", None), 10)
        # Then it is broken off, or its answer was written before
        assert seen == "broken" if name == "flush" else seen in ("broken", "200")
        assert 1 <= two.app.runtime.internal_errors <= 4
        # And others go on
        await _say(stream, b"and on")
        assert await two.http("GET", "/bytes/9", None) == "200"
        await stream.done_writing()
        await eventually(lambda: two.app.runtime.in_flight == 0, "nothing is under way")


async def test_a_deadline_that_fails_ends_its_request() -> None:
    async with pair(timeouts={"request": "50ms"}) as two:
        with bug_in(Waiting, "_on_deadline") as bug:
            bug.armed = True
            assert await two.http("GET", "/hang", None) == "500 internal"
        # And the clock goes on
        assert await two.http("GET", "/hang", None) == "504 timeout"


async def test_what_writes_logs_may_fail_too() -> None:
    class Broken:
        def finished(self, exchange: Any) -> None:
            raise BugError("a log")

    async with pair() as two:
        two.app.runtime.records.append(Broken())
        assert await two.http("GET", "/bytes/9", None) == "200"
        assert await two.rpc() == "OK"
        assert two.app.runtime.internal_errors == 2
        await eventually(lambda: two.app.runtime.in_flight == 0, "nothing is under way")


def test_each_bug_is_logged_and_none_fills_the_disk(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    runtime: Any = type("Counting", (), {"internal_errors": 0})()
    crashes = Crashes(runtime, clock)

    def told(error: Exception) -> int:
        crashes(error)
        return capsys.readouterr().out.count("request_failed_by_a_bug")

    # Given the same bug again and again: it is logged once in a while, with a trace
    assert [told(_raised(_one)) for _ in range(100)] == [1] + [0] * 99
    # And another one beside it at once
    assert told(_raised(_other)) == 1
    clock.now += 10
    assert told(_raised(_one)) == 1
    assert runtime.internal_errors == 102


def test_bugs_behind_the_parser_are_told_apart() -> None:
    class Sink:
        on_message_head: Any = staticmethod(lambda head, end: None)
        on_message_end: Any = staticmethod(lambda trailers: _other())

        @staticmethod
        def on_message_data(data: bytes, end: bool) -> None:
            _one()

    def place(answer: bytes) -> str:
        sink: Any = Sink()
        decoder = h1.ResponseDecoder(sink)
        decoder.expect(RequestHead(b"GET", b"/", b"a", []))
        try:
            decoder.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + answer)
        except BugError as error:
            return place_of(error)
        raise AssertionError("it does not raise")

    # Given two bugs that llhttp calls: each is its own place, in our code
    assert place(b"3\r\nabc\r\n") == place_of(_raised(_one))
    assert place(b"0\r\n\r\n") == place_of(_raised(_other))


def _one() -> None:
    raise BugError("one")


def _other() -> None:
    raise BugError("other")


def _raised(by: Callable[[], None]) -> Exception:
    try:
        by()
    except BugError as error:
        return error
    raise AssertionError("it does not raise")
