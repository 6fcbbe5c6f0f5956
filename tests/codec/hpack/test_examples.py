"""The examples of RFC 7541 through sidecar.codec.h2: list and dynamic table are as the RFC has them."""

from typing import Any

import pytest

from sidecar.codec import h2
from tests.codec.hpack.conversation import as_pairs, blocks, received
from tests.codec.hpack.examples import GROUPS, Example, Group
from tests.codec.hpack.peers import Field, Peer
from tests.security.http2 import frames as f

_FIRST = 62  # of the dynamic table (RFC 7541 2.3.3)


class Ours:
    """A connection of the codec, that is given a group's header blocks."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._codec = h2.client_connection() if group.responses else h2.server_connection()
        self._codec.receive_data((b"" if group.responses else f.PREFACE) + f.settings((3, 100)))
        self._codec.data_to_send()
        self._stream = -1

    def decode(self, example: Example) -> list[Field]:
        """The list in the next block of the group."""
        decoded = self._message(example.block, example.fields)
        return decoded[self._at : self._at + len(example.fields)]

    def entry(self, index: int, wanted: Field) -> Field:
        """What a reference into the dynamic table means, from 0."""
        (field,) = self._message(bytes([0x80 | (_FIRST + index)]), (wanted,))[self._at : self._at + 1]
        return field

    def nothing_at(self, index: int) -> bool:
        """Whether a reference to that index ends the connection as RFC 7541 2.3.3 asks."""
        self._receive(bytes([0x80 | (_FIRST + index)]))
        last = [*f.split(self._codec.data_to_send())][-1]
        return last.kind == f.GOAWAY and last.code == f.COMPRESSION_ERROR

    def _message(self, block: bytes, fields: tuple[Field, ...]) -> list[Field]:
        """All fields of a message made of this block and of what a message needs besides, in literals that leave
        the table alone. `_at` is where the block's own fields are."""
        pseudo = [(b":status", b"200")] if self._group.responses else f.GET
        needed = [pair for pair in pseudo if pair[0] not in [field.name for field in fields]]
        first = fields[0].name.startswith(b":")
        self._at = 0 if first else len(needed)
        self._receive(block + f.block(needed) if first else f.block(needed) + block)
        ((message,),) = received(self._codec).values()
        return [*message]

    def _receive(self, block: bytes) -> None:
        self._stream += 2
        if self._group.responses:
            self._codec.send_request(f.GET, end_stream=True)
            self._codec.data_to_send()
        if self._stream == 1 and self._group.limit != 4096:
            # The codec asks for no other size: here it is the encoder that changes it (RFC 7541 6.3).
            block = _size_update(self._group.limit) + block
        self._codec.receive_data(f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, self._stream, block))


def _size_update(size: int) -> bytes:
    """RFC 7541 6.3, of 31 to 16,414 bytes."""
    return bytes([0x3F, (size - 31) & 127 | 128, (size - 31) >> 7])


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_an_example_is_decoded_to_its_list(group: Group) -> None:
    ours = Ours(group)
    for example in group.examples:
        assert ours.decode(example) == [*example.fields], example.section


@pytest.mark.parametrize(
    ("group", "number"),
    [pytest.param(group, n, id=group.examples[n].section) for group in GROUPS for n in range(len(group.examples))],
)
def test_the_table_behind_an_example_is_the_rfcs(group: Group, number: int) -> None:
    ours = Ours(group)
    for example in group.examples[: number + 1]:
        ours.decode(example)
    table = group.examples[number].table
    assert [ours.entry(index, wanted) for index, wanted in enumerate(table)] == [*table]
    assert ours.nothing_at(len(table)), "one entry more than the RFC has"


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_what_the_codec_makes_of_the_lists_is_read_alike(group: Group, peer: Peer) -> None:
    # Which representations an encoder chooses is its own matter (RFC 7541 1.1): the list is what counts.
    codec: Any = h2.server_connection() if group.responses else h2.client_connection()
    codec.receive_data((f.PREFACE if group.responses else b"") + f.settings((1, group.limit), (3, 100)))
    codec.data_to_send()
    steps: list[int | bytes] = [group.limit]
    for index, example in enumerate(group.examples):
        pairs = as_pairs(example.fields)
        if group.responses:
            codec.receive_data(f.headers(1 + 2 * index, f.GET, end=True))
            codec.send_response(1 + 2 * index, pairs, end_stream=True)
        else:
            codec.send_request(pairs, end_stream=True)
        ((_, block),) = blocks(codec.data_to_send())
        assert not (group.responses and index == 0) or block.startswith(_size_update(group.limit)), "it goes first"
        steps.append(block)
    assert peer.decode(steps) == [[*example.fields] for example in group.examples]


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_the_peers_read_the_examples_as_the_rfc_does(group: Group, peer: Peer) -> None:
    # They judge the codec: here they are judged.
    blocks = [example.block for example in group.examples]
    blocks[0] = (_size_update(group.limit) if group.limit != 4096 else b"") + blocks[0]
    assert peer.decode(blocks) == [[*example.fields] for example in group.examples]
