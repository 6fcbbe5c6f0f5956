"""Header lists from one implementation of HPACK through a sidecar to another, and back."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from tests.codec.hpack.lists import Lists
from tests.codec.hpack.peers import Field, GoPeer, Peer, PythonPeer
from tests.security.http2 import frames as f
from tests.security.http2.test_musts_of_servers import proxied, raw_server
from tests.support.sidecar import running

WITHIN = 50.0
BATCHES, BATCH = 40, 25  # requests of a batch are under way together
# Of one hop, or changed on the way for good reasons: other tests see to them.
NOT_PASSED_ON = {b"cookie", b"expect", b"max-forwards", b"proxy-authorization", b"proxy-authenticate"}
_SIZES = (0, 40, 256, 1000, 4096)


class End:
    """One end of the path: a connection by hand, with somebody else's HPACK."""

    def __init__(self, wire: f.Peer, coder: Peer, random: Random) -> None:
        self.wire = wire
        self._coder = coder
        self._random = random
        self._allowed: list[int] = []

    async def allow(self) -> None:
        """Another size for the sidecar's encoder, which is in force when it says so (RFC 9113 6.5.3)."""
        size = self._random.choice(_SIZES)
        await self.wire.send(f.settings((1, size)))
        self._allowed.append(size)

    async def send(self, messages: Sequence[tuple[int, Sequence[Field]]]) -> None:
        """Whole messages, on these streams."""
        steps: list[int | Sequence[Field]] = []
        if self._random.random() < 0.5:
            steps.append(self._random.choice(_SIZES))
        encoded = self._coder.encode([*steps, *(fields for _, fields in messages)])
        for (stream, _), block in zip(messages, encoded, strict=True):
            parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
            for index, part in enumerate(parts):
                flags = (f.END_HEADERS if part is parts[-1] else 0) | (0 if index else f.END_STREAM)
                await self.wire.send(f.frame(f.CONTINUATION if index else f.HEADERS, flags, stream, part))

    async def receive(self) -> tuple[int, list[Field]] | None:
        """The next header list, with its stream; None at the end of the connection."""
        block = b""
        while (got := await self.wire.read_frame()) is not None:
            assert got.kind not in (f.GOAWAY, f.RST_STREAM), str(got)
            if got.kind == f.SETTINGS and got.flags & f.ACK and self._allowed:
                self._coder.decode([self._allowed.pop(0)])
            elif got.kind in (f.HEADERS, f.CONTINUATION):
                block += got.payload
                if got.flags & f.END_HEADERS:
                    (fields,) = self._coder.decode([block])
                    return got.stream, fields
        return None


def numbered(fields: Sequence[Field], number: int) -> list[Field]:
    """The list that the sidecar passes on as it is, and by whose `:path` it is known again."""
    kept = [field for field in fields if field.name not in NOT_PASSED_ON]
    return [Field(b":path", b"/%d" % number) if field.name == b":path" else field for field in kept]


@pytest.mark.parametrize("seed", [1, 2])
async def test_lists_reach_the_other_end_unchanged(peer: Peer, go_peer: GoPeer, seed: int) -> None:
    """The client has one implementation and the server the other."""
    random = Random(seed)
    other = PythonPeer() if isinstance(peer, GoPeer) else go_peer
    other.renew()
    lists = Lists(random)
    numbers = range(BATCHES * BATCH)
    requests = [numbered(lists.request(), number) for number in numbers]
    answers = [numbered(lists.response(), number) for number in numbers]
    arrived: dict[int, list[Field]] = {}
    connections = 0

    async def serve(wire: f.Peer) -> None:
        nonlocal connections
        connections += 1
        assert await wire.reader.readexactly(len(f.PREFACE)) == f.PREFACE
        await wire.send(f.settings((3, 100)))
        end = End(wire, other, Random(seed))
        while (got := await end.receive()) is not None:
            stream, fields = got
            number = int(dict(field[:2] for field in fields)[b":path"][1:])
            arrived[number] = fields
            if number % BATCH == 0:
                await end.allow()
            await end.send([(stream, answers[number])])

    async with raw_server(serve) as port, running(proxied(port)) as app, asyncio.timeout(WITHIN):
        client = End(await f.connect(app.address("in").port), peer, Random(-seed))
        for first in range(0, len(requests), BATCH):
            batch = range(first, first + BATCH)
            await client.allow()
            await client.send([(2 * number + 1, requests[number]) for number in batch])
            for _ in batch:
                got = await client.receive()
                assert got is not None, "the sidecar closed"
                number = got[0] // 2
                assert same(answers[number], got[1])
        client.wire.close()
    assert connections == 1
    for number in numbers:
        assert same(requests[number], arrived[number])


def same(sent: Sequence[Field], came: Sequence[Field]) -> bool:
    """Whether a list came through: in order, but for the pseudo-header fields, whose order means nothing; and what
    must never be indexed was not. More may be kept out of tables on the way (RFC 7541 7.1.3)."""
    before, after = (sorted(fields, key=_pseudo) for fields in (sent, came))
    assert [field[:2] for field in after] == [field[:2] for field in before]
    assert all(two.never for one, two in zip(before, after, strict=True) if one.never)
    return True


def _pseudo(field: Field) -> tuple[bool, bytes]:
    return (False, field.name) if field.name.startswith(b":") else (True, b"")
