"""Any bytes from an HTTP/1 client against the whole sidecar: no exception gets out, every
request that began is finished, its place, its try and its connection are given back.
"""

from typing import Final

from fuzz import h1_requests
from fuzz.whole_path import stand
from sidecar.wire.h1_server import H1ServerConnection

SEEDS: Final = h1_requests.SEEDS
WORDS: Final = h1_requests.WORDS


def check(data: bytes) -> None:
    """One connection's life."""
    stand(H1ServerConnection, data)
