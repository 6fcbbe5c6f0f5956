"""How much one connection may ask of us that costs its sender nothing.

Each kind of frame that is cheap to send and makes us work has a bucket that leaks: it
holds a burst, and so many run out of it in a second. What overflows it ends the
connection (RFC 9113 10.5, ENHANCE_YOUR_CALM). The numbers leave room for honest clients
that are busy: a thousand calls of one connection that meet their deadline at once and
are cancelled, and do so every second; a PING for each round trip on loopback, as grpc
sends to measure the bandwidth; a WINDOW_UPDATE for each of a thousand messages a second.
What a bucket lets through for ever costs some hundredths of a core.
"""

from collections.abc import Mapping
from typing import Final

# By reason: how many at once, and how many a second for ever.
BUDGETS: Final[Mapping[str, tuple[int, int]]] = {
    # RST_STREAM of the peer (CVE-2023-44487).
    "rapid_reset": (5_000, 1_000),
    # Streams that the peer's own errors made us reset (CVE-2025-8671).
    "stream_error": (500, 100),
    "ping": (10_000, 5_000),
    "settings": (100, 10),
    "window_update": (50_000, 25_000),
    "goaway": (10, 1),
    # Heads over what we said that we take, each of which is read to its end.
    "header_list": (500, 100),
    # DATA of nothing but padding; the library counts other frames of no use, as many of them.
    "useless_frames": (1_000, 100),
    # Answers that were cut because the client's windows took too little of them.
    "stalled_answers": (500, 10),
}
# An endless row of 1xx heads before one answer is an attack or a loop, in both versions of HTTP (RFC
# 9110 15.2 sets no bound): each goes on to the client, who may not read them.
MAX_INTERIM: Final = 32
# Why a connection is ended: a budget, or one of the library's limits: a header list far too
# long (as if its budget were spent), a header block in too many parts, answers to PING and
# SETTINGS that nobody reads, frames of no use, more streams than allowed.
REASONS: Final = (*BUDGETS, "continuation", "unread_answers", "too_many_streams")


class Calm:
    """The buckets of one connection. Not thread-safe."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}

    def spend(self, reason: str, now: float, amount: int = 1) -> float:
        """Put `amount` into a bucket at the time `now` (seconds); how full it is then. Above
        1 it overflows."""
        burst, rate = BUDGETS[reason]
        level, since = self._levels.get(reason, (0.0, now))
        level = max(0.0, level - (now - since) * rate) + amount
        self._levels[reason] = (level, now)
        return level / burst
