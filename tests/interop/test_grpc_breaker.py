"""A breaker that opens under gRPC: at once for everybody, one probe, and shut again."""

import asyncio
from typing import Any

import grpc

from sidecar.app import App
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN
from tests.interop.grpc_calls import bidi, cluster_of, config, endpoint_of, eventually, quiet, through, unary
from tests.support import faults
from tests.support.fault_server import Exchange, FaultServer
from tests.support.sidecar import running

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
BREAKER: dict[str, Any] = {"consecutive": 3, "open": {"base": "150ms", "max": "10s"}}
done = faults.grpc_answer(b"done")


async def trip(app: App, channel: Any) -> None:
    """Reach the threshold."""
    for _ in range(3):
        assert (await unary(channel, "Unary")).code is UNAVAILABLE
    assert endpoint_of(app).breaker.state == OPEN


async def test_at_the_threshold_the_next_call_fails_at_once() -> None:
    async with (
        FaultServer(then=faults.commit_then_reset) as server,
        running(config(server.address, breaker={**BREAKER, "open": {"base": "30s"}})) as app,
        through(app) as channel,
    ):
        await trip(app, channel)
        connections = len(server.connections)
        outcomes = [await unary(channel, "Unary") for _ in range(20)]
        assert {(outcome.code, outcome.trailer("x-sidecar-error")) for outcome in outcomes} == {
            (UNAVAILABLE, "breaker_open")
        }
        assert (len(server.heads), len(server.connections)) == (3, connections)
        assert cluster_of(app).local_replies["breaker_open"] == 20
        await quiet(app)


async def test_exactly_one_of_fifty_callers_probes_and_its_success_closes() -> None:
    gate = asyncio.Event()
    steps = (faults.commit_then_reset,) * 3
    async with (
        FaultServer(*steps, faults.gated(gate, done), then=done) as server,
        running(config(server.address, breaker=BREAKER)) as app,
        through(app) as channel,
    ):
        await trip(app, channel)
        await eventually(lambda: endpoint_of(app).breaker.state == HALF_OPEN, "the open time is over")
        callers = [asyncio.create_task(unary(channel, "Unary")) for _ in range(50)]
        refused, waiting = await _all_but_one(callers)
        assert {task.result().trailer("x-sidecar-error") for task in refused} == {"breaker_open"}
        await server.until(lambda s: len(s.requests) == 4)
        gate.set()
        (probe,) = await asyncio.gather(*waiting)
        assert probe.messages == (b"done",)
        assert endpoint_of(app).breaker.state == CLOSED
        outcomes = await asyncio.gather(*(unary(channel, "Unary") for _ in range(50)))
        assert {outcome.messages for outcome in outcomes} == {(b"done",)}
        await quiet(app)


async def test_a_probe_that_fails_opens_again_and_a_cancelled_one_decides_nothing() -> None:
    gate = asyncio.Event()
    steps = [faults.commit_then_reset] * 4
    async with (
        FaultServer(*steps, faults.gated(gate, done), then=done) as server,
        running(config(server.address, breaker=BREAKER)) as app,
        through(app) as channel,
    ):
        breaker = endpoint_of(app).breaker
        await trip(app, channel)
        await eventually(lambda: breaker.state == HALF_OPEN, "the first open time is over")
        await unary(channel, "Unary")
        assert (breaker.state, len(server.heads)) == (OPEN, 4)
        await eventually(lambda: breaker.state == HALF_OPEN, "the second open time is over")
        probe = channel.unary_unary("/test.Echo/Unary")(b"")
        await server.until(lambda s: len(s.heads) == 5)
        assert (await unary(channel, "Unary")).trailer("x-sidecar-error") == "breaker_open"
        probe.cancel()
        await quiet(app)
        assert breaker.state == HALF_OPEN
        # The permit was handed back: the next call is the probe.
        assert (await unary(channel, "Unary")).messages == (b"done",)
        assert breaker.state == CLOSED


async def echo_until_end(exchange: Exchange) -> None:
    """A stream: its head at once, a message for the first one, then whatever the client does."""
    request = await exchange.head()
    await exchange.send_head(200, [(b"content-type", b"application/grpc")])
    await exchange.send_data(b"\x00\x00\x00\x00\x01e")
    await exchange.request()
    await exchange.send_trailers([(b"grpc-status", b"0")])
    assert request.path == "/test.Echo/Bidi"


async def test_the_same_with_streams_a_probe_closes_when_it_is_established() -> None:
    steps = (faults.commit_then_reset,) * 3
    async with (
        FaultServer(*steps, then=echo_until_end) as server,
        running(config(server.address, breaker=BREAKER)) as app,
        through(app) as channel,
    ):
        await trip(app, channel)
        refused = bidi(channel)
        assert await refused.code() is UNAVAILABLE
        assert dict(await refused.trailing_metadata())["x-sidecar-error"] == "breaker_open"
        assert len(server.heads) == 3
        breaker = endpoint_of(app).breaker
        await eventually(lambda: breaker.state == HALF_OPEN, "the open time is over")

        async def caller() -> tuple[Any, bytes | None]:
            # Nothing is written: grpc.aio calls a write that meets the end an internal error.
            call = bidi(channel)
            try:
                return call, await call.read()
            except grpc.aio.AioRpcError:
                return call, None

        results = await asyncio.gather(*(caller() for _ in range(50)))
        established = [call for call, answer in results if answer == b"e"]
        refusals = [call for call, answer in results if answer != b"e"]
        assert {dict(await call.trailing_metadata()).get("x-sidecar-error") for call in refusals} == {"breaker_open"}
        # The first one probed. Those that came while it was under way were refused, those
        # that came once it was established were let in: none probed besides it.
        assert len(server.heads) == 3 + len(established)
        assert breaker.transitions[HALF_OPEN, CLOSED] == 1
        # It goes on, and the breaker is closed: new streams and calls pass beside it.
        assert not established[0].done()
        assert breaker.state == CLOSED
        for call in established:
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
        await quiet(app)


async def test_a_stream_that_probes_lets_nobody_else_in_before_its_head() -> None:
    gate = asyncio.Event()

    async def gated_stream(exchange: Exchange) -> None:
        await exchange.head()
        await gate.wait()
        await echo_until_end(exchange)

    steps = (faults.commit_then_reset,) * 3
    async with (
        FaultServer(*steps, gated_stream, then=echo_until_end) as server,
        running(config(server.address, breaker=BREAKER)) as app,
        through(app) as channel,
    ):
        await trip(app, channel)
        breaker = endpoint_of(app).breaker
        await eventually(lambda: breaker.state == HALF_OPEN, "the open time is over")
        calls = [bidi(channel) for _ in range(50)]
        ends = [asyncio.create_task(call.code()) for call in calls]
        refused, waiting = await _all_but_one(ends)
        assert {task.result() for task in refused} == {UNAVAILABLE}
        await server.until(lambda s: len(s.heads) == 4)
        assert breaker.state == HALF_OPEN
        gate.set()
        await eventually(lambda: breaker.state == CLOSED, "the established probe has closed it")
        (end,) = waiting
        assert not end.done()
        probe = calls[ends.index(end)]
        assert await probe.read() == b"e"
        await probe.done_writing()
        assert await end is grpc.StatusCode.OK
        await quiet(app)


async def test_open_breakers_of_one_endpoint_leave_the_other() -> None:
    async with (
        FaultServer(then=faults.commit_then_reset) as bad,
        FaultServer(then=done) as good,
        running(
            config(
                bad.address,
                good.address,
                balance={"policy": "round_robin"},
                breaker={**BREAKER, "open": {"base": "30s"}},
            )
        ) as app,
        through(app) as channel,
    ):
        for _ in range(6):
            await unary(channel, "Unary")
        assert endpoint_of(app).breaker.state == OPEN
        assert len(bad.heads) == 3
        outcomes = await asyncio.gather(*(unary(channel, "Unary") for _ in range(50)))
        assert {outcome.messages for outcome in outcomes} == {(b"done",)}
        assert len(bad.heads) == 3
        await quiet(app)


async def _all_but_one(tasks: list[Any]) -> tuple[set[Any], set[Any]]:
    """Wait until a single one is left: those that are through, and that one."""
    waiting: set[Any] = set(tasks)
    through_: set[Any] = set()
    async with asyncio.timeout(10):
        while len(waiting) > 1:
            fresh, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            through_ |= fresh
    return through_, waiting
