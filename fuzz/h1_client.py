"""Any bytes from an HTTP/1 server, in answer to what an honest client asks: no exception
gets out, every request is answered or ended, everything is given back. Byte by byte the
answer is the same, and so are the requests that are made again.
"""

from typing import Any, Final

from fuzz import h1_requests, h1_responses
from fuzz.stage import MARK, Heard, play
from sidecar.model.head import RequestHead

_ASKED: Final = (
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
)
SEEDS: Final = (*h1_responses.SEEDS, h1_responses.SEEDS[0] * 2, h1_responses.SEEDS[0] + MARK + h1_responses.SEEDS[1])
WORDS: Final = (*h1_responses.WORDS, MARK, MARK + MARK)


def check(data: bytes) -> None:
    """Each part of the data is one read of what an endpoint said."""
    said = MARK + data.replace(MARK, MARK + MARK)
    for asked in _ASKED:
        play(asked + said)
    whole, bytewise = (play(_ASKED[2] + said, bytewise=bytewise) for bytewise in (False, True))
    assert _answer(bytewise) == _answer(whole), "byte by byte the client's answer is another"
    assert _requests(bytewise) == _requests(whole), "byte by byte other requests are made"


def _answer(heard: Heard) -> list[tuple[Any, ...]]:
    return h1_responses.read(RequestHead(b"GET", b"/", b"a", []), [heard.client])


def _requests(heard: Heard) -> list[list[tuple[Any, ...]]]:
    """Over the connections on which there were some."""
    return [h1_requests.read([each]) for each in heard.endpoints if each]
