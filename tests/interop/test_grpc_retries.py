"""What is repeated and what is not: a gRPC call runs twice only where its method is listed."""

import asyncio
from typing import Any

import grpc
import pytest

from sidecar.policy.breaker import CLOSED
from tests.interop.grpc_calls import (
    FORBIDDEN_WORDS,
    Outcome,
    bidi,
    channel_to,
    cluster_of,
    config,
    endpoint_of,
    quiet,
    streamed,
    through,
    unary,
)
from tests.support import faults
from tests.support.fault_server import Accept, Connection, Exchange, FaultServer, Step, refusing_port
from tests.support.grpc_service import GrpcService
from tests.support.sidecar import running

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
SAFE: dict[str, Any] = {"idempotent": ["test.Echo/Unary"], "backoff": {"base": "1ms", "max": "2ms"}}
LISTED: dict[str, Any] = {"retry": SAFE}
done = faults.grpc_answer(b"done")


def assert_ours(outcome: Outcome, reason: str) -> None:
    """A reply of the sidecar: named, and in words on which nobody retries by itself."""
    assert outcome.trailer("x-sidecar-error") == reason
    told = (outcome.details or "").lower()
    assert told
    assert not [word for word in FORBIDDEN_WORDS if word in told]


BREAKS: list[Step] = [
    faults.commit_then_reset,
    faults.commit_then_close,
    faults.rst_stream(faults.INTERNAL_ERROR, commit=True),
    faults.rst_stream(faults.CANCEL, commit=True),
    faults.rst_stream(faults.NO_ERROR, commit=True),
]


@pytest.mark.parametrize("fault", BREAKS, ids=["rst", "fin", "internal_error", "cancel", "no_error"])
async def test_a_committed_call_that_breaks_off_is_repeated_only_if_listed(fault: Step) -> None:
    async with FaultServer(fault, then=done) as server, running(config(server.address)) as app, through(app) as channel:
        outcome = await unary(channel, "Unary", b"m")
        assert (outcome.code, len(server.requests)) == (UNAVAILABLE, 1)
        assert_ours(outcome, "reset")
        assert outcome.trailer("x-sidecar-retry-skipped") == "not_idempotent"
        assert (await unary(channel, "Unary")).messages == (b"done",)
        await quiet(app)
    async with (
        FaultServer(fault, then=done) as server,
        running(config(server.address, **LISTED)) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary", b"m")
        assert (outcome.code, outcome.messages) == (OK, (b"done",))
        assert dict(outcome.initial)["x-sidecar-attempts"] == "2"
        assert [request.header("x-sidecar-attempt") for request in server.requests] == [None, "2"]
        assert [request.body for request in server.requests] == [b"\x00\x00\x00\x00\x01m"] * 2
        await quiet(app)


async def test_an_idempotency_key_lists_one_call() -> None:
    async with (
        FaultServer(faults.commit_then_reset, then=done) as server,
        running(config(server.address)) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary", metadata=(("idempotency-key", "k"),))
    assert (outcome.messages, len(server.requests)) == ((b"done",), 2)


@pytest.mark.parametrize("fault", [faults.refused_stream, faults.goaway()], ids=["refused", "above_goaway"])
async def test_what_was_refused_is_repeated_whatever_the_method(fault: Step) -> None:
    async with FaultServer(fault, then=done) as server, running(config(server.address)) as app, through(app) as channel:
        outcome = await unary(channel, "Unary", b"m")
        assert outcome.messages == (b"done",)
        assert (len(server.heads), len(server.requests)) == (2, 1)
        assert endpoint_of(app).breaker.counts(app.runtime.clock()) == (1, 0)
        await quiet(app)


async def test_calls_below_a_goaway_finish_and_those_above_move() -> None:
    gate = asyncio.Event()
    steps = (faults.gated(gate, faults.grpc_answer(b"below")), faults.goaway(then=done))
    async with (
        FaultServer(*steps, then=done) as server,
        running(config(server.address)) as app,
        through(app) as channel,
    ):
        below = asyncio.create_task(unary(channel, "Unary"))
        await server.until(lambda s: len(s.requests) == 1)
        assert (await unary(channel, "Unary")).messages == (b"done",)
        gate.set()
        assert (await below).messages == (b"below",)
        assert (len(server.requests), len(server.connections)) == (2, 2)
        await quiet(app)


async def reads_a_little_and_resets(connection: Connection) -> None:
    """A process that is about to go: the kernel accepted for it, and it never says a word."""
    await connection.fill()
    connection.reset()


@pytest.mark.parametrize("accept", [reads_a_little_and_resets, faults.close_at_accept, faults.never_read])
async def test_a_server_that_never_said_a_word_has_run_nothing(accept: Accept) -> None:
    async with (
        FaultServer(then=done, accepts=(accept,)) as server,
        running(config(server.address, timeouts={"connect": "200ms"})) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary", b"m")
        assert outcome.messages == (b"done",)
        assert (len(server.requests), len(server.connections)) == (1, 2)
        await quiet(app)


async def test_refused_every_time_ends_in_a_reply_of_ours() -> None:
    async with (
        FaultServer(then=faults.refused_stream) as server,
        running(config(server.address, retry={"backoff": {"base": "1ms", "max": "1ms"}})) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary")
    assert (outcome.code, len(server.heads), len(server.requests)) == (UNAVAILABLE, 3, 0)
    assert_ours(outcome, "reset")
    assert outcome.trailer("x-sidecar-retry-skipped") == "attempts"


async def test_nobody_there_is_told_in_harmless_words() -> None:
    async with refusing_port() as port, running(config(f"127.0.0.1:{port}")) as app, through(app) as channel:
        outcome = await unary(channel, "Unary")
        assert outcome.code is UNAVAILABLE
        assert_ours(outcome, "connect_failed")
        await quiet(app)


async def test_an_applications_own_unavailable_passes_untouched(grpc_service: GrpcService) -> None:
    asked = (("x-details-bin", "später".encode()), ("x-status-details", "why"), ("x-request-id", "r"))
    async with (
        running(config(grpc_service.address, breaker={"min_requests": 100})) as app,
        through(app) as proxied,
        channel_to(grpc_service.address) as direct,
    ):
        expected = await unary(direct, "Fail", metadata=asked)
        assert expected.code is UNAVAILABLE
        for number in range(8):
            # More than `consecutive`: an application's word opens nothing.
            assert await unary(proxied, "Fail", metadata=asked) == expected
            assert grpc_service.runs["r"] == number + 2
        assert endpoint_of(app).breaker.state == CLOSED
        assert await streamed(proxied, "FailStream", metadata=asked) == await streamed(
            direct, "FailStream", metadata=asked
        )
        assert cluster_of(app).retries_skipped["not_idempotent"] == 8
        await quiet(app)


async def test_an_applications_own_unavailable_is_repeated_where_listed(grpc_service: GrpcService) -> None:
    retry = {**SAFE, "idempotent": ["test.Echo/*"]}
    async with running(config(grpc_service.address, retry=retry)) as app, through(app) as channel:
        outcome = await unary(channel, "FailFirst", b"m", metadata=(("x-request-id", "r"), ("x-count", "2")))
        assert (outcome.messages, grpc_service.runs["r"]) == ((b"m",), 3)
        await quiet(app)


async def test_when_the_tries_run_out_the_last_answer_is_the_applications(grpc_service: GrpcService) -> None:
    retry = {**SAFE, "idempotent": ["test.Echo/*"]}
    asked = (("x-request-id", "r"), ("x-status-details", "why"))
    async with (
        running(config(grpc_service.address, retry=retry)) as app,
        through(app) as proxied,
        channel_to(grpc_service.address) as direct,
    ):
        outcome = await unary(proxied, "Fail", metadata=asked)
        assert grpc_service.runs["r"] == 3
        expected = await unary(direct, "Fail", metadata=asked)
        assert (outcome.code, outcome.details, outcome.trailing) == (expected.code, expected.details, expected.trailing)
        assert dict(outcome.initial) == {"x-sidecar-attempts": "3", "x-sidecar-retry-skipped": "attempts"}
        # Codes that are not in `grpc_on` are answers like any other.
        other = await unary(proxied, "Fail", metadata=(*asked, ("x-code", "INTERNAL")))
        assert (other.code, grpc_service.runs["r"]) == (grpc.StatusCode.INTERNAL, 5)


async def test_an_error_after_messages_is_not_repeated(grpc_service: GrpcService) -> None:
    retry = {**SAFE, "idempotent": ["test.Echo/*"]}
    async with running(config(grpc_service.address, retry=retry)) as app, through(app) as channel:
        outcome = await streamed(channel, "FailStream", b"m", metadata=(("x-request-id", "r"), ("x-count", "2")))
        assert (outcome.messages, outcome.code) == ((b"m", b"m"), UNAVAILABLE)
        assert grpc_service.runs["r"] == 1


async def test_a_stream_with_a_second_message_is_never_repeated() -> None:
    async def two_messages_then_reset(exchange: Exchange) -> None:
        request = await exchange.head()
        await exchange.server.until(lambda _: len(request.body) >= 12)
        exchange.connection.reset()

    async with (
        FaultServer(two_messages_then_reset, then=done) as server,
        running(config(server.address, retry={**SAFE, "idempotent": ["test.Echo/*"]})) as app,
        through(app) as channel,
    ):
        call = bidi(channel)
        await call.write(b"1")
        await call.write(b"2")
        server.spawn(_tell_until_gone(server))
        assert await call.code() is UNAVAILABLE
        assert len(server.heads) == 1
        await quiet(app)


async def _tell_until_gone(server: FaultServer) -> None:
    """DATA tells nobody: wake the step's wait now and then."""
    while True:
        await asyncio.sleep(0.01)
        await server.tell()


async def test_pushback_forbids() -> None:
    step = faults.grpc_trailers_only(14, "busy", [(b"grpc-retry-pushback-ms", b"-1")])
    async with (
        FaultServer(step, then=done) as server,
        running(config(server.address, **LISTED)) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary")
        assert (outcome.code, outcome.details, len(server.requests)) == (UNAVAILABLE, "busy", 1)
        assert dict(outcome.initial)["x-sidecar-retry-skipped"] == "pushback"


async def test_pushback_delays_within_the_deadline() -> None:
    waits = [(b"grpc-retry-pushback-ms", b"150")]
    steps = (faults.grpc_trailers_only(14, "busy", waits), done, faults.grpc_trailers_only(14, "busy", waits))
    async with (
        FaultServer(*steps, then=done) as server,
        running(config(server.address, **LISTED)) as app,
        through(app) as channel,
    ):
        began = app.runtime.clock()
        assert (await unary(channel, "Unary")).messages == (b"done",)
        assert app.runtime.clock() - began >= 0.15
        # No time left for that wait: the answer goes to the client, at once.
        outcome = await unary(channel, "Unary", timeout=0.14)
        assert (outcome.code, len(server.requests)) == (UNAVAILABLE, 3)
        assert dict(outcome.initial)["x-sidecar-retry-skipped"] == "deadline"


async def test_the_budget_bounds_repeats() -> None:
    retry = {**SAFE, "attempts": 4, "budget": {"ratio": 0, "floor": 5}}
    async with (
        FaultServer(then=faults.grpc_trailers_only(14, "busy")) as server,
        running(config(server.address, retry=retry, breaker={"min_requests": 1000})) as app,
        through(app) as channel,
    ):
        outcomes = await asyncio.gather(*(unary(channel, "Unary") for _ in range(30)))
        skipped = [dict(outcome.initial)["x-sidecar-retry-skipped"] for outcome in outcomes]
        assert "budget" in skipped
        assert {outcome.details for outcome in outcomes} == {"busy"}
        # 5 a second, a second's worth at once; each run of this test is well under ten.
        assert 30 < len(server.requests) <= 30 + 60
        await quiet(app)


async def test_too_large_a_request_is_not_kept_for_a_repeat() -> None:
    large = bytes(512 * 1024)
    async with (
        FaultServer(faults.commit_then_reset, then=done) as server,
        running(config(server.address, **LISTED)) as app,
        through(app) as channel,
    ):
        outcome = await unary(channel, "Unary", large)
        assert (outcome.code, len(server.requests)) == (UNAVAILABLE, 1)
        assert outcome.trailer("x-sidecar-retry-skipped") == "too_large"
        assert (await unary(channel, "Unary", large)).messages == (b"done",)


async def test_broken_answers_are_errors_and_harm_no_other_call(grpc_service: GrpcService) -> None:
    """Garbage, a break after the head, no status: each has its one name."""
    steps = (faults.garbage, faults.partial_body(b"\x00\x00\x00\x00\x09par", None), faults.answer(500, b"oops"))
    async with (
        FaultServer(*steps, then=done) as server,
        running(config(server.address)) as app,
        through(app) as channel,
    ):
        broken = await unary(channel, "Unary")
        assert_ours(broken, "reset")
        partial = await streamed(channel, "ServerStream")
        assert partial.code is UNAVAILABLE
        assert_ours(partial, "reset")
        assert (await unary(channel, "Unary")).code is grpc.StatusCode.UNKNOWN
        assert (await unary(channel, "Unary")).messages == (b"done",)
        await quiet(app)
