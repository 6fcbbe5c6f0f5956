"""Any bytes from an HTTP/1 server, in answer to what an honest client asks: no exception
gets out, every request is answered or ended, everything is given back. Byte by byte too.
"""

from typing import Final

from fuzz import h1_responses
from fuzz.stage import MARK, play

_ASKED: Final = (
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
)
SEEDS: Final = (*h1_responses.SEEDS, h1_responses.SEEDS[0] * 2, h1_responses.SEEDS[0] + MARK + h1_responses.SEEDS[1])
WORDS: Final = (*h1_responses.WORDS, MARK, MARK + MARK)


def check(data: bytes) -> None:
    """Each part of the data is one read of what an endpoint said."""
    for asked in _ASKED:
        play(asked + MARK + data.replace(MARK, MARK + MARK))
    play(_ASKED[0] + MARK + data.replace(MARK, MARK + MARK), bytewise=True)
