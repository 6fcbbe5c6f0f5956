"""Header lists between a peer's HPACK and a connection of the h2 codec, in frames, both ways."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from ngh2 import NeverIndexedHeader

from sidecar.codec import h2
from tests.codec.hpack.lists import Lists
from tests.codec.hpack.peers import Field, List, Peer
from tests.security.http2 import frames as f

# What an encoder may make of its table: its decoder allows 4,096 bytes (RFC 9113 6.5.2).
_SIZES: Final = (0, 0, 1, 32, 33, 64, 100, 256, 1000, 2048, 4095, 4096, 4096)
# What the peer's decoder allows: ours need not use all of it.
_ALLOWED: Final = (*_SIZES, 8192, 1 << 20, (1 << 32) - 1)
_BATCH: Final = 60
# RFC 9113 4.2: what everybody takes. The codec says that it takes more, but that is never acknowledged here.
_FRAME: Final = 16_384
# What libnghttp2 never indexes by itself: it takes them for secrets.
_ITS_SECRETS: Final = {b"authorization", b"cookie"}


class Conversation:
    """Connections one after the other, in both roles. What goes in and does not come out alike is an AssertionError."""

    def __init__(self, peer: Peer, seed: int) -> None:
        self._peer = peer
        self._random = Random(seed)
        self.from_peer = 0  # header lists that the peer encoded and the codec decoded
        self.from_codec = 0

    def run(self, lists: int) -> None:
        """At least so many lists of the peer's."""
        until = self.from_peer + lists
        while self.from_peer < until:
            if self._random.random() < 0.5:
                self._as_a_client()
            else:
                self._as_a_server()

    def _as_a_client(self) -> None:
        """The peer asks, the codec is the server."""
        codec, lists = self._connection(h2.server_connection())
        codec.receive_data(f.PREFACE + f.settings())
        stream = 1
        for _ in range(self._random.randint(1, 40)):
            number = self._random.randint(1, _BATCH)
            streams = range(stream, stream + 2 * number, 2)
            stream += 2 * number
            allowed = self._settle(codec)
            requests = [self._head_and_trailers(lists.request(), lists) for _ in streams]
            self._feed(codec, streams, requests)
            _compare(requests, received(codec), streams)
            answers = [self._head_and_trailers(lists.response(), lists) for _ in streams]
            for one, answer in zip(streams, answers, strict=True):
                codec.send_response(one, as_pairs(answer[0]), end_stream=len(answer) == 1)
                if len(answer) > 1:
                    codec.send_trailers(one, as_pairs(answer[1]))
            self._check_sent(codec, streams, answers, allowed)

    def _as_a_server(self) -> None:
        """The codec asks, the peer answers."""
        codec, lists = self._connection(h2.client_connection())
        assert codec.data_to_send().startswith(f.PREFACE)
        codec.receive_data(f.settings((3, 1000)))
        for _ in range(self._random.randint(1, 40)):
            allowed = self._settle(codec)
            requests = [self._head_and_trailers(lists.request(), lists) for _ in range(self._random.randint(1, _BATCH))]
            streams = []
            for request in requests:
                streams.append(codec.send_request(as_pairs(request[0]), end_stream=len(request) == 1))
                if len(request) > 1:
                    codec.send_trailers(streams[-1], as_pairs(request[1]))
            self._check_sent(codec, streams, requests, allowed)
            answers = [self._head_and_trailers(lists.response(), lists) for _ in streams]
            self._feed(codec, streams, answers)
            _compare(answers, received(codec), streams)

    def _connection(self, codec: h2.Connection) -> tuple[h2.Connection, Lists]:
        self._peer.renew()
        return codec, Lists(self._random)

    def _head_and_trailers(self, head: List, lists: Lists) -> tuple[List, ...]:
        return (head, lists.trailers()) if self._random.random() < 0.15 else (head,)

    def _settle(self, codec: h2.Connection) -> list[int]:
        """Now and then the peer allows our encoder another size (RFC 7541 4.2); in SETTINGS that go before."""
        if self._random.random() > 0.3:
            return []
        sizes = self._random.choices(_ALLOWED, k=self._random.choice((1, 1, 2)) if self._peer.takes_two_sizes else 1)
        codec.receive_data(b"".join(f.settings((1, size)) for size in sizes))
        return sizes

    def _feed(self, codec: h2.Connection, streams: Sequence[int], messages: Sequence[tuple[List, ...]]) -> None:
        random = self._random
        steps: list[int | List] = []
        for message in messages:
            for part in message:
                while random.random() < 0.05:
                    steps.append(random.choice(_SIZES))
                steps.append(part)
        encoded = iter(self._peer.encode(steps))
        out = bytearray()
        for stream, message in zip(streams, messages, strict=True):
            for index in range(len(message)):
                out += b"".join(self._framed(stream, next(encoded), end=index == len(message) - 1))
                self.from_peer += 1
        if random.random() < 0.5:
            codec.receive_data(bytes(out))
            return
        while out:
            size = random.randint(1, 2000)
            codec.receive_data(bytes(out[:size]))
            del out[:size]

    def _framed(self, stream: int, block: bytes, end: bool) -> Iterator[bytes]:
        """One header block, in one frame or in some (RFC 9113 6.10)."""
        size = _FRAME if self._random.random() < 0.9 else min(_FRAME, 1 + len(block) // self._random.randint(1, 4))
        parts = [block[at : at + size] for at in range(0, len(block), size)]
        for index, part in enumerate(parts):
            flags = (f.END_HEADERS if index == len(parts) - 1 else 0) | (f.END_STREAM if end and index == 0 else 0)
            yield f.frame(f.CONTINUATION if index else f.HEADERS, flags, stream, part)

    def _check_sent(
        self, codec: h2.Connection, streams: Sequence[int], messages: Sequence[tuple[List, ...]], allowed: Sequence[int]
    ) -> None:
        """What the codec wrote is these messages, as the peer decodes them."""
        written = [*blocks(codec.data_to_send())]
        lists = self._peer.decode([*allowed, *(block for _, block in written)])
        got: dict[int, list[List]] = {stream: [] for stream in streams}
        for (stream, _), fields in zip(written, lists, strict=True):
            got[stream].append(fields)
            self.from_codec += 1
        for stream, message in zip(streams, messages, strict=True):
            assert [[field[:2] for field in part] for part in got[stream]] == [as_pairs(part) for part in message]
            for part, wanted in zip(got[stream], message, strict=True):
                for sent, field in zip(part, wanted, strict=True):
                    assert sent.never or not field.never, f"indexed: {field}"
                    assert field.never or not sent.never or sent.name in _ITS_SECRETS, f"never indexed: {field}"


def as_pairs(fields: List) -> list[tuple[bytes, bytes]]:
    """A list as the codec takes it and gives it."""
    return [NeverIndexedHeader(name, value) if never else (name, value) for name, value, never in fields]


def as_fields(headers: Sequence[tuple[bytes, bytes]]) -> list[Field]:
    """The reverse of it."""
    return [Field(pair[0], pair[1], isinstance(pair, NeverIndexedHeader)) for pair in headers]


def received(codec: h2.Connection) -> dict[int, list[List]]:
    """The lists that the codec has decoded, heads and trailers, by their streams."""
    got: dict[int, list[List]] = {}
    for event in codec.events():
        if isinstance(event, (h2.RequestReceived, h2.ResponseReceived, h2.TrailersReceived)):
            got.setdefault(event.stream_id, []).append(as_fields(event.headers))
    return got


def _compare(messages: Sequence[tuple[List, ...]], got: dict[int, list[List]], streams: Sequence[int]) -> None:
    missing = [message for stream, message in zip(streams, messages, strict=True) if stream not in got]
    assert not missing
    assert [*got] == [*streams], "in order"
    for message, parts in zip(messages, got.values(), strict=True):
        assert [*message] == parts


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The header blocks in what the codec wrote, with their streams, in order."""
    block = b""
    for got in f.split(data):
        assert got.kind not in (f.GOAWAY, f.RST_STREAM), str(got)
        if got.kind in (f.HEADERS, f.CONTINUATION):
            block += got.payload
            if got.flags & f.END_HEADERS:
                yield got.stream, block
                block = b""
