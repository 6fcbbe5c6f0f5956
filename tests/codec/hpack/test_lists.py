"""sidecar.codec.h2 against two other implementations of HPACK: header lists come through unchanged."""

from random import Random

import pytest

from tests.codec.hpack.anyway import AnyWay
from tests.codec.hpack.conversation import Conversation
from tests.codec.hpack.peers import Peer


@pytest.mark.parametrize("seed", range(4))
def test_random_lists_come_through_unchanged_both_ways(peer: Peer, seed: int) -> None:
    conversation = Conversation(peer, seed)
    conversation.run(2_500)
    assert conversation.from_codec > 500


@pytest.mark.parametrize("seed", range(4))
def test_lists_written_in_any_way_that_the_rfc_allows_come_through_unchanged(seed: int) -> None:
    conversation = Conversation(AnyWay(Random(seed)), seed)
    conversation.run(1_000)
    assert conversation.from_codec > 200


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_random_lists_come_through_unchanged_both_ways(peer: Peer) -> None:
    conversation = Conversation(peer, 7541)
    conversation.run(1_000_000)
    assert conversation.from_codec > 500_000


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_half_a_million_lists_written_in_any_way_come_through_unchanged() -> None:
    Conversation(AnyWay(Random(7541)), 7541).run(500_000)
