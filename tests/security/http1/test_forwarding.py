"""What an endpoint gets of what clients may say: byte for byte, over the connection that is kept."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.security.http1.client import say
from tests.security.http1.forwarded import ALL, NEXT, NEXT_GOT, Forwarded
from tests.security.http1.scene import Scene, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene() -> AsyncIterator[Scene]:
    """A sidecar and its endpoint, connected: a body that ends before they are would be known whole."""
    async with serving() as scene:
        assert (await say(scene.port, NEXT, 1)).statuses == [200]
        yield scene


@pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "byte by byte", "in sevens"])
@pytest.mark.parametrize("case", ALL.values(), ids=ALL.keys())
async def test_what_goes_on_is_written_by_the_sidecar(case: Forwarded, cut: int | None, scene: Scene) -> None:
    before = len(scene.upstream.received)
    said = await say(scene.port, case.data, case.answers, cut=cut)
    assert said.statuses == [200] * case.answers
    assert scene.upstream.received[before:] == case.got
    # Nothing of it is left over on either side.
    assert (await say(scene.port, NEXT, 1)).statuses == [200]
    assert scene.upstream.received[before:] == case.got + NEXT_GOT
