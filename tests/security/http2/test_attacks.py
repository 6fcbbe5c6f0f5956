"""HTTP/2 abuse in short: every attack ends as it has to, and a bystander is served meanwhile.

What it does to the bystander's latency and to memory is measured by test_siege.py, for longer.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest

from sidecar.app import App
from sidecar.codec.h2 import MAX_STREAMS
from sidecar.policy.calm import REASONS
from tests.chaos.watching import eventually
from tests.security.http2 import frames as f
from tests.security.http2.attacks import ATTACKS, attack
from tests.support.http_service import HttpService
from tests.support.sidecar import running

WITHIN = 60.0  # on a machine that does much else
CONNECTIONS = 2
# Together more than MAX_STREAMS.
_BATCHES, _BATCH = 6, 200


@pytest.fixture
async def app(http_service: HttpService) -> AsyncIterator[App]:
    # The bystander has a cluster of its own: a thousand requests that are cancelled while the service
    # is not quick enough to accept them may open the breaker of theirs.
    config = f"""
    admin: {{bind: "127.0.0.1:0"}}
    clusters:
      web: {{endpoints: ["{http_service.address}"], protocol: http1, limits: {{requests: 5000, connections: 5000}}}}
      quiet: {{endpoints: ["{http_service.address}"], protocol: http1, timeouts: {{connect: 30s}}}}
    listeners:
      in: {{bind: "127.0.0.1:0", routes: [{{to: web}}]}}
      asked: {{bind: "127.0.0.1:0", routes: [{{to: quiet}}]}}
    """
    async with running(config) as app:
        yield app


@pytest.mark.parametrize("name", [name for name, kind in ATTACKS.items() if kind.end != "open"])
async def test_an_attack_is_ended_while_others_are_served(name: str, app: App) -> None:
    async with aiohttp.ClientSession(f"http://{app.address('asked')}") as bystander:
        attacking = asyncio.create_task(attack(app.address("in").port, name, WITHIN, CONNECTIONS))
        served = 0
        while not attacking.done() or not served:
            async with bystander.get("/bytes/100", timeout=aiohttp.ClientTimeout(WITHIN)) as response:
                assert response.status == 200
                assert len(await response.read()) == 100
            served += 1
        outcome = await attacking
    assert dict(outcome.ends) == {ATTACKS[name].end: CONNECTIONS}
    # It is counted as what it is, and nothing of it goes on.
    assert sum(app.runtime.abuse.counts.values()) == (CONNECTIONS if ATTACKS[name].end == "ENHANCE_YOUR_CALM" else 0)
    await eventually(lambda: app.runtime.in_flight == 0, "no request is under way")
    await eventually(lambda: app.runtime.connections["downstream", "http2"] == 0, "no connection is left")
    assert app.runtime.internal_errors == 0


async def test_the_reason_is_told_once_with_the_peer(app: App) -> None:
    outcome = await attack(app.address("in").port, "ping_flood", WITHIN, CONNECTIONS)
    assert outcome.ends["ENHANCE_YOUR_CALM"] == CONNECTIONS
    (event,) = [event for event in app.events.latest() if event.kind == "http2_abuse"]
    peer = event.fields["peer"]
    assert isinstance(peer, str)
    assert peer.startswith("127.0.0.1:")
    assert event.fields["reason"] == "ping"
    assert event.fields["side"] == "downstream"
    assert app.runtime.abuse.counts["downstream", "ping"] == CONNECTIONS
    assert "ping" in REASONS


async def test_a_stream_too_many_is_told_for_what_it_is(app: App) -> None:
    """RFC 9113 5.1.2 asks for PROTOCOL_ERROR; a second GOAWAY says why."""
    peer = await f.connect(app.address("in").port)
    await peer.send(*(f.headers(stream, f.HANG, end=True) for stream in range(1, 2 * MAX_STREAMS + 2, 2)))
    await peer.until_closed()
    peer.close()
    assert [got.code for got in peer.of(f.GOAWAY)] == [f.PROTOCOL_ERROR, f.ENHANCE_YOUR_CALM]
    assert +Counter(app.runtime.abuse.counts) == {("downstream", "too_many_streams"): 1}


async def test_a_thousand_answers_that_no_window_takes_end_the_connection(http_service: HttpService) -> None:
    config = f"""
    admin: {{bind: "127.0.0.1:0"}}
    clusters:
      web: {{endpoints: ["{http_service.address}"], protocol: http1, limits: {{requests: 5000, connections: 5000}}}}
    listeners: {{in: {{bind: "127.0.0.1:0", timeouts: {{header: 4s, write: 1s}}, routes: [{{to: web}}]}}}}
    """
    async with running(config) as app:
        outcome = await attack(app.address("in").port, "zero_windows", WITHIN, 1)
        assert dict(outcome.ends) == {"ENHANCE_YOUR_CALM": 1}
        assert +Counter(app.runtime.abuse.counts) == {("downstream", "stalled_answers"): 1}
        await eventually(lambda: app.runtime.in_flight == 0, "no request is under way")


async def test_a_client_that_resets_at_once_has_no_more_requests_upstream_than_streams() -> None:
    """Counted by a server that never answers, over connections that it is told of one by one."""
    came = under_way = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came, under_way, most
        try:
            if not await reader.readline():
                return
            came += 1
            under_way += 1
            most = max(most, under_way)
            try:
                while await reader.read(4096):
                    pass
            finally:
                under_way -= 1
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    config = f"""
    admin: {{bind: "127.0.0.1:0"}}
    clusters:
      web:
        endpoints: ["127.0.0.1:{server.sockets[0].getsockname()[1]}"]
        protocol: http1
        limits: {{requests: 5000, connections: 5000}}
    listeners: {{in: {{bind: "127.0.0.1:0", routes: [{{to: web}}]}}}}
    """
    async with server, running(config) as app:
        peer = await f.connect(app.address("in").port)
        for first in range(1, 2 * _BATCHES * _BATCH, 2 * _BATCH):
            batch = range(first, first + 2 * _BATCH, 2)
            await peer.send(*(f.headers(stream, f.HANG, end=True) for stream in batch))
            # Cancelled in a read of its own, when it is upstream: within one read it never gets there.
            before = came
            await eventually(lambda before=before: came > before, "they go upstream")  # type: ignore[misc]
            await peer.send(*(f.reset(stream) for stream in batch))
        assert await peer.alive()
        peer.close()
        assert 0 < most <= MAX_STREAMS
        await eventually(lambda: under_way == 0, "all of them are cancelled upstream")
