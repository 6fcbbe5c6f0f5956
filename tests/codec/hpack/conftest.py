"""The two peers; the one in Go runs as long as the tests of a process."""

from collections.abc import Iterator

import pytest

from tests.codec.hpack.peers import SOURCE, VENDORED, GoPeer, Peer, PythonPeer
from tests.support.go import built


@pytest.fixture(scope="session")
def go_peer(pytestconfig: pytest.Config) -> Iterator[GoPeer]:
    """Compiled when its source changed, which takes up to a minute."""
    cache = pytestconfig.cache
    assert cache is not None
    with GoPeer(built(SOURCE, cache.mkdir("go"), [VENDORED])) as peer:
        yield peer


@pytest.fixture(params=["hpack", "go"])
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each implementation, at the beginning of a connection."""
    chosen: Peer = request.getfixturevalue("go_peer") if request.param == "go" else PythonPeer()
    chosen.renew()
    return chosen
