"""sidecar.codec.h2 against two other implementations of HPACK: header lists come through unchanged."""

import pytest

from tests.codec.hpack.conversation import Conversation
from tests.codec.hpack.peers import Peer


@pytest.mark.parametrize("seed", range(4))
def test_random_lists_come_through_unchanged_both_ways(peer: Peer, seed: int) -> None:
    conversation = Conversation(peer, seed)
    conversation.run(2_500)
    assert conversation.from_codec > 500


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_random_lists_come_through_unchanged_both_ways(peer: Peer) -> None:
    conversation = Conversation(peer, 7541)
    conversation.run(1_000_000)
    assert conversation.from_codec > 500_000
