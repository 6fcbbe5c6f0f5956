"""Hostile clients of HTTP/1.1: each is refused, and no byte of what it said reaches an endpoint."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.security.http1.client import say
from tests.security.http1.refused import ALL, CHUNKS, HOST, Refused
from tests.security.http1.scene import LISTENERS, Scene, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = b"GET /good HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene() -> AsyncIterator[Scene]:
    """A sidecar with a connection to its endpoint that was used and is kept."""
    async with serving() as scene:
        assert (await say(scene.port, GOOD, 1)).statuses == [200]
        yield scene


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("case", ALL.values(), ids=ALL.keys())
async def test_what_is_no_request_is_refused_and_nothing_of_it_goes_on(
    case: Refused, listener: str, scene: Scene
) -> None:
    before = scene.upstream.received
    said = await say(scene.port_of(listener), case.data)
    assert said.statuses == [case.status]
    assert said.error == case.error
    assert said.closed
    assert b"connection: close\r\n" in said.data
    assert scene.upstream.received == before


async def test_a_refused_client_costs_the_next_one_nothing(scene: Scene) -> None:
    assert (await say(scene.port, GOOD, 1)).statuses == [200]
    connections = len(scene.upstream.connections)
    before = scene.upstream.received
    assert (await say(scene.port, ALL["length: length, then chunked"].data)).statuses == [400]
    assert (await say(scene.port, GOOD, 1)).statuses == [200]
    assert scene.upstream.received == before + b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n"
    assert len(scene.upstream.connections) == connections


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("chunks: ")])
async def test_a_head_in_pieces_is_refused_as_well(name: str, scene: Scene) -> None:
    before = scene.upstream.received
    case = ALL[name]
    said = await say(scene.port, case.data, cut=7 if len(case.data) < 3_000 else 997)
    assert said.statuses == [case.status]
    assert said.closed
    assert scene.upstream.received == before


@pytest.mark.parametrize("name", CHUNKS)
async def test_chunks_that_come_behind_their_head_end_the_connection_to_the_endpoint(name: str, scene: Scene) -> None:
    assert (await say(scene.port, GOOD, 1)).statuses == [200]
    kept = scene.upstream.connections[-1]
    before = kept.data

    async def until_begun() -> None:
        await scene.upstream.until(lambda: kept.data != before)

    case = CHUNKS[name]
    said = await say(scene.port, case.data, hold=until_begun)
    assert said.statuses == [case.status]
    assert said.closed
    await asyncio.wait_for(kept.closed.wait(), 10)
    began = kept.data.removeprefix(before)
    assert began.startswith(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    assert b"smuggled" not in began
    assert not began.endswith(b"0\r\n\r\n")  # it was never whole
